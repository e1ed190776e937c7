"""A system on Kafka: the processes with their roles, on topics of their own, and what one does to them."""

import contextlib
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx

from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.kafka.settings import variable
from coordinator.logs.kafka.topics import create_or_verify
from tests.cli.conftest import COMMAND, Cli
from tests.system.server import Server, eventually, free_port

SESSION_S = 6
"""The shortest that brokers take as they come."""


class Process:
    """One `coordinator serve` with some roles, in a data directory of its own."""

    def __init__(self, directory: Path, bootstrap: str, roles: str, properties: dict[str, str]) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.address = f"127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.process: subprocess.Popen[bytes] | None = None
        self._bootstrap, self._roles = bootstrap, roles
        self._log = directory / "log"
        self.env = {variable(name): value for name, value in properties.items()}
        directory.mkdir()

    def start(self) -> Self:
        """Start it."""
        assert self.process is None
        command = [COMMAND, "serve", "--log", f"kafka://{self._bootstrap}", "--roles", self._roles]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data", str(self.data), "--listen", self.address],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=Cli(self.directory, self.url).env | self.env,
            )
        return self

    def is_ready(self) -> bool:
        """Whether it says so. Fails when it has ended instead."""
        code = None if self.process is None else self.process.poll()
        assert code is None, f"it has ended with {code}:\n{self.said()}"
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/ready").status_code == httpx.codes.OK
        return False

    def listens(self) -> bool:
        """Whether it can be asked."""
        try:
            return self.http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-6_000:] if self._log.exists() else ""

    def events(self) -> list[str]:
        """What it wrote that has happened, by name, in order."""
        return re.findall(r'"event": "(\w+)"', self._log.read_text(errors="replace"))

    def metric(self, name: str) -> float:
        """One that has no labels."""
        text = self.http.get("/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stop(self) -> int:
        """SIGTERM, as an operator would; the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        return code


class System(Server):
    """Processes on one log; what a test asks goes to the one with the http role (`front`)."""

    def __init__(self, directory: Path, bootstrap: str, *, partitions: int = 4) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory, partitions=partitions)
        self.bootstrap = bootstrap
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.settings = KafkaSettings.of(f"kafka://{bootstrap}", {"topic.prefix": self.prefix})
        self._directory = directory
        self.processes: list[Process] = []
        create_or_verify(self.settings, partitions)

    def process_with(self, roles: str, **properties: str) -> Process:
        """A process that is not started. Keyword arguments are Kafka's settings, with _ for a dot."""
        given = {"topic.prefix": self.prefix, "session.timeout.ms": str(SESSION_S * 1_000)}
        given |= {"heartbeat.interval.ms": "1000"}
        given |= {name.replace("_", "."): value for name, value in properties.items()}
        name = f"{roles.replace(',', '-')}-{len(self.processes)}"
        process = Process(self._directory / name, self.bootstrap, roles, given)
        self.processes.append(process)
        return process

    def front(self, process: Process) -> None:
        """Ask this one from now on."""
        if self.http is not process.http:
            self.http.close()
        self.url, self.http = process.url, process.http
        self.cli = Cli(self._directory, self.url)

    def is_ready(self) -> bool:
        """Whether the whole of it can take commands."""
        for process in self.processes:
            assert process.process is None or process.process.poll() is None, f"it has ended:\n{process.said()}"
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/ready").status_code == httpx.codes.OK
        return False

    def said(self) -> str:
        """The end of what all of them wrote."""
        return "\n".join(f"--- {process.directory.name}\n{process.said()}" for process in self.processes)

    def check_of(self, process: Process, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`coordinator check` on the stores of a process."""
        source = ["--log", f"kafka://{self.bootstrap}", "--data", str(process.data)]
        return self.cli("check", *source, *arguments, **process.env)

    def owners(self) -> dict[int, str | None]:
        """The address of each partition's owner."""
        return {one["partition"]: one["owner"] for one in self.http.get("/partitions").json()}

    def owned_by(self, process: Process) -> list[int]:
        """The partitions of one of them."""
        return [partition for partition, owner in self.owners().items() if owner == process.address]

    def end(self) -> None:
        """Have it over with."""
        for process in self.processes:
            process.kill()
            process.http.close()


@contextlib.contextmanager
def system(directory: Path, bootstrap: str, *, partitions: int = 4) -> Iterator[tuple[System, list[Process]]]:
    """Two workers, the coordinator, and a process that serves HTTP; ready, and both workers have partitions."""
    with System(directory, bootstrap, partitions=partitions) as of:
        workers = [of.process_with("partitions").start() for _ in range(2)]
        of.process_with("requests").start()
        front = of.process_with("http").start()
        of.front(front)
        eventually(of.is_ready, within_s=120, says=of.said)
        eventually(lambda: all(of.owned_by(worker) for worker in workers), within_s=60, says=of.said)
        yield of, workers
