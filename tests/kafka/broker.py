"""A Kafka broker, from wherever one can be had.

In this order: the one that `KAFKA_BOOTSTRAP` names; a container, where a Docker engine answers; a process of the
machine's own Java, 17 or newer, with the jars that Maven fetches once into `build/kafka`. A broker started here is a
single node, broker and controller in one (KRaft), with its data in a folder of its own.

    python -m tests.kafka.broker                  a broker until Ctrl-C; says its address
    python -m tests.kafka.broker COMMAND …        runs the command with KAFKA_BOOTSTRAP set, and ends with it
"""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.kafka import maven

VERSION: Final = "4.1.1"
IMAGE: Final = f"apache/kafka:{VERSION}"
JARS: Final = Path(__file__).parents[2] / "build" / "kafka" / VERSION
POM: Final = Path(__file__).with_name("pom.xml")
START_TIMEOUT_S: Final = 180.0
NONE_TO_BE_HAD: Final = (
    "there is no Kafka broker to test against: set KAFKA_BOOTSTRAP to the address of one, start a Docker engine, or "
    "install Java 17 and Maven; or leave these tests out with --without-kafka"
)


class NoBrokerError(Exception):
    """There is none of the three ways to a broker; the text says what to do."""


@functools.cache
def docker() -> bool:
    """Whether a Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


@functools.cache
def jars() -> Path:
    """The folder with the broker's jars, fetched if this is the first time. Raises NoBrokerError."""
    if not maven.there():
        raise NoBrokerError(NONE_TO_BE_HAD)
    try:
        return maven.fetched(POM, JARS)
    except OSError as error:
        raise NoBrokerError(f"Kafka {VERSION} could not be fetched: {error}") from error


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Broker:
    """One broker with its data in `directory`, which must exist; started by `start`, as often as one likes."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        protocol: str = "PLAINTEXT",
        settings: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
    ) -> None:
        """`protocol` is that of its listener; `settings` are added to its properties, `format_options` to the
        formatting of its storage (such as `--add-scram`).
        """
        self.directory: Final = directory
        self.port: Final = port or free_port()
        self.bootstrap: Final = f"127.0.0.1:{self.port}"
        self._controller_port = free_port()
        self._format_options = format_options
        self._name = f"coordinator-kafka-{uuid.uuid4().hex[:12]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = directory / "server.properties"
        self._properties.write_text(self._text(protocol, settings or {}))

    def _text(self, protocol: str, settings: Mapping[str, str]) -> str:
        inside = "0.0.0.0" if docker() else "127.0.0.1"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{protocol}://{inside}:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"{protocol}://{self.bootstrap}",
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{protocol}:{protocol}",
            "inter.broker.listener.name": protocol,
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
        }
        return "".join(f"{name}={value}\n" for name, value in (properties | dict(settings)).items())

    def start(self) -> None:
        """Start it, on the data that it had when it was last stopped or killed, and wait until it answers."""
        if not (self.directory / "data").exists():
            options = ["--cluster-id", "coordinatorcoordinatQ", "--config", str(self._properties)]
            self.run_tool("kafka.tools.StorageTool", "format", *options, *self._format_options)
        with (self.directory / "server.log").open("wb") as output:
            command = [*self._java(f"--name={self._name}", "-p", f"127.0.0.1:{self.port}:{self.port}"), "kafka.Kafka"]
            command.append(str(self._properties))
            # A session of its own: Ctrl-C on the terminal is for whoever started it, who then stops it in order.
            self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NoBrokerError(f"the broker did not start: {self.last_words()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0 and "Kafka Server started" in self._log()

    def _log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")

    def last_words(self) -> str:
        """What it complained of, or else the end of what it wrote."""
        complaints = [line for line in self._log().splitlines() if " ERROR " in line or "Caused by" in line]
        return "\n".join(complaints)[:2_000] or self._log()[-1_000:].strip()

    def run_tool(self, tool: str, *arguments: str) -> str:
        """Run a command line tool of Kafka by its class; its output."""
        done = subprocess.run([*self._java(), tool, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoBrokerError(f"{tool} failed: {(done.stdout + done.stderr).strip()[-1_000:]}")
        return done.stdout

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut of the process does; `start` goes on with its data."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang, its connections open, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._signal(number)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if docker():
            subprocess.run(["docker", "kill", f"--signal={number.name}", self._name], capture_output=True, check=False)
        else:
            self._process.send_signal(number)

    def _java(self, *container_options: str) -> list[str]:
        """What a Java class of Kafka is run with, here or in a container that sees the same folder."""
        if not docker():
            return ["java", "-Xmx512m", "-Dlog4j2.level=INFO", "-cp", f"{jars()}/*"]
        folder = f"{self.directory}:{self.directory}"
        user = f"{os.getuid()}:{os.getgid()}"
        options = ["--rm", f"--user={user}", "-v", folder, "--entrypoint=java", *container_options]
        return ["docker", "run", *options, IMAGE, "-Xmx512m", "-Dlog4j2.level=INFO", "-cp", "/opt/kafka/libs/*"]


@contextmanager
def running() -> Iterator[str]:
    """The address of a broker: one that is there, or one that is started and ends with the block."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with TemporaryDirectory(prefix="coordinator-kafka-") as directory:
        broker = Broker(Path(directory))
        try:
            broker.start()
            yield broker.bootstrap
        finally:
            broker.stop()


def _run(command: Sequence[str], bootstrap: str) -> int:
    """Its exit code. Signals are for the command to end by: the broker must outlive it."""
    with subprocess.Popen(command, env=os.environ | {"KAFKA_BOOTSTRAP": bootstrap}) as process:
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C on the terminal reaches the command by itself
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
    return code if code >= 0 else 128 - code


def main(command: Sequence[str]) -> int:
    """Have a broker, for a command or until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what stops the broker
    try:
        if "KAFKA_BOOTSTRAP" not in os.environ:
            sys.stderr.write(f"starting Kafka {VERSION}, which is fetched the first time\n")
        with running() as bootstrap:
            if command:
                return _run(command, bootstrap)
            sys.stdout.write(f"Kafka answers at {bootstrap}; Ctrl-C ends it\n")
            sys.stdout.flush()
            signal.pause()
    except NoBrokerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
