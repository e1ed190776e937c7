"""The processes of the demo: the server, a participant, and the one that sends. Each ends with its block."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

import httpx

from coordinator.demo import traffic
from coordinator.demo.participant import DEPLOYMENT
from coordinator.model.errors import CoordinatorError

_READY_S: Final = 60.0
"""For a process to come up, or to have all answered, on a machine with a lot else to do."""
_END_S: Final = 10.0
_POLL_S: Final = 0.05
_LOG_LINES: Final = 5


@contextlib.contextmanager
def server(folder: Path, partitions: int) -> Iterator[str]:
    """`coordinator serve` on new data, from when it takes commands; its URL.

    Raises CoordinatorError, with the end of its log, when it does not come up.
    """
    address = f"127.0.0.1:{_free_port()}"
    said = folder / "server.log"
    command = [sys.executable, "-m", "coordinator.demo.served", str(folder), "--data", str(folder / "data")]
    command += ["--partitions", str(partitions), "--listen", address]
    with said.open("wb") as log, _process(command, folder, stdout=log, stderr=log) as process:
        _await(lambda http: http.get(f"http://{address}/ready").is_success, process, said, "the server did not come up")
        yield f"http://{address}"


@contextlib.contextmanager
def participant(folder: Path, url: str) -> Iterator[None]:
    """The process that runs handlers, from when its deployment is registered."""
    said = folder / "participant.log"
    command = [sys.executable, "-m", "coordinator.demo.participant", url]
    with said.open("wb") as log, _process(command, folder, stdout=log, stderr=log) as process:
        _await(lambda http: _registered(http, url), process, said, "the participant did not come up")
        yield


@contextlib.contextmanager
def live_traffic(folder: Path, url: str, seed: int) -> Iterator["Traffic"]:
    """Live commands, from when the first was answered."""
    sent, said = folder / "sent.jsonl", folder / "traffic.log"
    command = [sys.executable, "-m", "coordinator.demo.traffic", url, str(seed), str(traffic.PER_S)]
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
    command: list[str], folder: Path, *, stdout: BinaryIO, stderr: BinaryIO
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process that sees on its standard input when this one is gone."""
    # In an empty folder and without the settings of whoever started this: the demo is the same for everyone.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
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


def _await(up: Callable[[httpx.Client], bool], process: "subprocess.Popen[bytes]", said: Path, failure: str) -> None:
    """Wait until the process is up; with the end of its log when it fails."""
    end = time.monotonic() + _READY_S
    with httpx.Client(trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if up(http):
                    return
            if process.poll() is not None or time.monotonic() > end:
                raise CoordinatorError(f"{failure}: {_tail(said)}")
            time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return " / ".join(lines) or "it said nothing"
