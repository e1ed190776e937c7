"""The processes of the demo: servers, a participant, and the one that sends. Each ends with its block."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final, NamedTuple

import httpx

from coordinator.demo import traffic
from coordinator.demo.participant import DEPLOYMENT
from coordinator.model.errors import CoordinatorError
from coordinator.runtime.layout import DataDirectory

_READY_S: Final = 60.0
"""For a process to come up, or to have all answered, on a machine with a lot else to do."""
_END_S: Final = 10.0
_POLL_S: Final = 0.05
_LOG_LINES: Final = 5


@dataclass(frozen=True)
class Server:
    """`coordinator serve` in one of the demo's processes, with its data in a folder below the demo's own."""

    folder: Path
    name: str
    options: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables."""
    address: str = field(default_factory=lambda: f"127.0.0.1:{_free_port()}")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    @property
    def data(self) -> DataDirectory:
        """What it keeps."""
        return DataDirectory(self.folder / self.name)

    @contextlib.contextmanager
    def running(self) -> Iterator["Started"]:
        """The process, which is not waited for."""
        command = [sys.executable, "-m", "coordinator.demo.served", str(self.folder), "--data", str(self.data.path)]
        command += ["--listen", self.address, *self.options]
        said = self.folder / f"{self.name}.log"
        with said.open("wb") as log, _process(command, self.folder, self.settings, stdout=log, stderr=log) as process:
            yield Started(process, said)


class Started(NamedTuple):
    """A process, and the file with what it says."""

    process: "subprocess.Popen[bytes]"
    said: Path


@contextlib.contextmanager
def participant(folder: Path, url: str) -> Iterator[None]:
    """The process that runs handlers, from when its deployment is registered."""
    said = folder / "participant.log"
    command = [sys.executable, "-m", "coordinator.demo.participant", url]
    with said.open("wb") as log, _process(command, folder, stdout=log, stderr=log) as process:
        await_up(lambda http: _registered(http, url), [Started(process, said)], "the participant did not come up")
        yield


@contextlib.contextmanager
def live_traffic(folder: Path, url: str, seed: int, per_s: int = traffic.PER_S) -> Iterator["Traffic"]:
    """Live commands at a steady rate, from when the first was answered."""
    sent, said = folder / "sent.jsonl", folder / "traffic.log"
    command = [sys.executable, "-m", "coordinator.demo.traffic", url, str(seed), str(per_s)]
    with (
        sent.open("wb") as out,
        said.open("wb") as log,
        _process(command, folder, stdout=out, stderr=log) as process,
    ):
        end = time.monotonic() + _READY_S
        while sent.stat().st_size == 0:
            if process.poll() is not None or time.monotonic() > end:
                raise CoordinatorError(f"no live command was sent: {_tail(said)}")
            time.sleep(_POLL_S)
        yield Traffic(process, sent)


class Traffic:
    """The running process and what it has noted."""

    def __init__(self, process: "subprocess.Popen[bytes]", sent: Path) -> None:
        self._process = process
        self._sent = sent

    def sent(self) -> list[traffic.Sent]:
        """What was answered so far."""
        return traffic.read(self._sent)

    def stop(self) -> None:
        """Let no more be sent; returns when all is answered. Raises CoordinatorError when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_READY_S)
        except subprocess.TimeoutExpired:
            raise CoordinatorError(f"live commands are not answered for {_READY_S:.0f} s") from None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as an interrupt does, so that it cleans up after itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _process(
    command: list[str], folder: Path, settings: Mapping[str, str] | None = None, *, stdout: BinaryIO, stderr: BinaryIO
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process that sees on its standard input when this one is gone."""
    # In an empty folder and without the settings of whoever started this: the demo is the same for everyone.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
    environment |= settings or {}
    process = subprocess.Popen(  # noqa: S603 - our own modules
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _registered(http: httpx.Client, url: str) -> bool:
    return any(one["id"] == DEPLOYMENT for one in http.get(f"{url}/deployments").json())


def await_up(up: Callable[[httpx.Client], bool], processes: Sequence[Started], failure: str) -> None:
    """Wait until they are up.

    Raises CoordinatorError when one ends instead, with the end of what it said, or when it takes too long.
    """
    end = time.monotonic() + _READY_S
    with httpx.Client(trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if up(http):
                    return
            ended = [one for one in processes if one.process.poll() is not None]
            if ended or time.monotonic() > end:
                raise CoordinatorError(f"{failure}: {_tail((ended or processes)[0].said)}")
            time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return " / ".join(lines) or "it said nothing"
