import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.client.fake_server import FakeServer

COMMAND = str(Path(sys.executable).with_name("coordinator"))


class Cli:
    """Runs the installed command as a process, in a directory and with settings of its own."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
        self.env = kept | {"COLUMNS": "100", "TERM": "xterm"} | ({} if url is None else {"COORDINATOR_URL": url})

    def __call__(self, *args: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
        """Run it with pipes and wait for its end."""
        done = subprocess.run(
            [COMMAND, *args], input=stdin, capture_output=True, check=False, cwd=self.directory, env=self.env | env
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def on_a_terminal(self, *args: str) -> Terminal:
        """Start it where a person would."""
        return Terminal([COMMAND, *args], self.directory, self.env)

    def script(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script that finds the command on its path."""
        path = f"{Path(COMMAND).parent}{os.pathsep}{self.env['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env=self.env | {"PATH": path},
        )


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, fake: FakeServer) -> Cli:
    return Cli(tmp_path, fake.url)
