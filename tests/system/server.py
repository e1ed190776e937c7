"""`coordinator serve` as a process on a port of its own, and what one does to it: ask, kill, freeze, start again."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx

from tests.cli.conftest import COMMAND, Cli
from tests.http.surface import Surface

READY_S = 60
"""A deadline and no expectation: machines that run tests are busy."""
CHECKED_BYTES_MAX = 100_000
"""Answers up to this size are held against the OpenAPI document; whole listings would take longer than the tests."""


class Server:
    """One data directory and the server that has it, if one runs."""

    def __init__(self, directory: Path, *, partitions: int = 4) -> None:
        self.data = directory / "data"
        self.partitions = partitions
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.cli = Cli(directory, self.url)
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "server.log"
        self._surface = Surface()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.http.close()

    # -- the process -----------------------------------------------------------------------------------------

    def start(self, *, until_ready: bool = True) -> Self:
        """Start it in a process group of its own, as a shell would."""
        assert self.process is None
        command = [COMMAND, "serve", "--data", str(self.data), "--partitions", str(self.partitions)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=self.cli.env,
                start_new_session=True,
            )
        if until_ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return once it says that it can take all commands."""
        eventually(self.is_ready, within_s=READY_S, says=self.said)

    def is_ready(self) -> bool:
        """Whether /ready says so. Fails when the server has ended instead."""
        assert self.process is None or self.process.poll() is None, f"the server has ended:\n{self.said()}"
        try:
            return self.http.get("/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def said(self) -> str:
        """The end of what it and its workers wrote on stdout and stderr."""
        return self._log.read_text(errors="replace")[-4_000:] if self._log.exists() else ""

    def workers(self) -> set[int]:
        """The processes that it has started and that run."""
        assert self.process is not None
        found: set[int] = set()
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (task / "children").read_text().split()}
        return {pid for pid in found if runs(pid)}

    def worker_of(self, partition: int) -> int:
        """The process that owns the partition."""
        owner = self.http.get("/partitions").json()[partition]["owner"]
        return int(owner.partition("pid ")[2].rstrip(")"))

    def kill_all(self) -> None:
        """SIGKILL to everything at once."""
        self._group(signal.SIGKILL)
        self._gone()

    def kill_server_only(self) -> set[int]:
        """SIGKILL to the server alone; the workers that it leaves behind."""
        assert self.process is not None
        left = self.workers()
        self.process.kill()
        self._gone()
        return left

    def stop(self) -> int:
        """SIGTERM, as an operator would; the exit code."""
        assert self.process is not None
        left = self.workers()
        self.process.terminate()
        code = self._gone()
        assert not {pid for pid in left if runs(pid)}, "workers outlive the server that was stopped"
        return code

    def end(self) -> None:
        """Whatever state it is in, have it over with."""
        if self.process is not None:
            self._group(signal.SIGKILL)
            self._gone()

    def restart(self) -> None:
        """Stop it and start it again on the same data."""
        self.stop()
        self.start()

    def _group(self, what: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, what)

    def _gone(self) -> int:
        assert self.process is not None
        code = self.process.wait(READY_S)
        self.process = None
        return code

    # -- asking it -------------------------------------------------------------------------------------------

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask over HTTP; the answer is held against the OpenAPI document."""
        response = self.http.request(method, path, **request)
        if len(response.content) <= CHECKED_BYTES_MAX:
            self._surface.check(method, path, response)
        return response

    def list(self, query: str = "") -> "list[dict[str, Any]]":
        """The invocations that a query string names."""
        response = self("GET", f"/invocations?{query}" if query else "/invocations")
        assert response.status_code == httpx.codes.OK, response.text
        return list(response.json())

    def get(self, id: str) -> dict[str, Any]:
        """One invocation."""
        response = self("GET", f"/invocations/{id}")
        assert response.status_code == httpx.codes.OK, response.text
        return dict(response.json())

    def send(self, target: str, query: str = "", **request: Any) -> str:
        """Start an invocation; its id."""
        response = self("POST", f"/services/{target}/send?{query}", **request)
        assert response.status_code in (200, 202), response.text
        return str(response.json()["id"])

    def import_lines(self, lines: bytes) -> dict[str, Any]:
        """Import a file; the report."""
        response = self("POST", "/import", content=lines)
        assert response.status_code == httpx.codes.OK, response.text
        return dict(response.json())

    def submit(self, action: str, filter: dict[str, Any], **options: Any) -> str:
        """Submit a batch; its id."""
        response = self("POST", "/batches", json={"action": action, "filter": filter, **options})
        assert response.status_code == httpx.codes.ACCEPTED, response.text
        return str(response.json()["id"])

    def batch(self, id: str) -> dict[str, Any]:
        """A batch as it stands."""
        response = self("GET", f"/batches/{id}")
        assert response.status_code == httpx.codes.OK, response.text
        return dict(response.json())

    def finished(self, id: str) -> dict[str, Any]:
        """The batch once it is over and what it has sent has arrived, by its events."""
        *_, last = self.watch(id)
        assert last["finished_at"] is not None, last
        return dict(last)

    def watch(self, id: str) -> Iterator[dict[str, Any]]:
        """The states that its events tell."""
        with self.http.stream("GET", f"/batches/{id}/events") as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def until(self, id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The batch as soon as its events tell a state for which this holds."""
        for state in self.watch(id):
            if holds(state):
                return state
        raise AssertionError(f"it ended before that: {self.batch(id)}")

    def do(self, action: str, filter: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Submit a batch and wait for its end."""
        return self.finished(self.submit(action, filter, **options))

    def bulk(self, action: str, *arguments: str) -> dict[str, Any]:
        """`coordinator invocations ACTION … --yes`, which must go well; the batch in the end."""
        done = self.cli("invocations", action, *arguments, "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def check(self) -> subprocess.CompletedProcess[str]:
        """`coordinator check`, beside the server or without one."""
        return self.cli("check", "--data", str(self.data))


def eventually(holds: Callable[[], bool], *, within_s: float = 30, says: Callable[[], str] = lambda: "") -> None:
    """Return once it holds; for what has no event that could be waited for."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s} s; {says()}"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether the process runs; one that has ended and only waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """A port that nothing listens on, and below those that the kernel gives to clients.

    So nobody takes it while a server is being started again.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
