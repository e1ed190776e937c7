"""Servers to test against: one for a module whose tests keep out of each other's way, or one for a test alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.examples import restate_rows
from tests.system.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module; each uses services of its own."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server.start()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started, on data that is not there yet."""
    with Server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def real_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled rows of a real Restate server, as a file that the command line can be given."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl.gz"
    path.write_bytes(restate_rows().read_bytes())
    return path


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line to the terminal, wherever output goes otherwise: how a long run does."""
    plugins = request.config.pluginmanager
    capture, reporter = plugins.getplugin("capturemanager"), plugins.getplugin("terminalreporter")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(text)

    return line
