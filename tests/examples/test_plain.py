"""Clients that know nothing but the schemas, against a coordinator and partitions on a real broker."""

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import Entry, Stream
from coordinator.model import ids, messages
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.owner import PartitionOwner
from coordinator.runtime.requests.role import RequestsRole
from coordinator.stores.sqlite import SqliteStore
from tests.kafka import maven

EXAMPLES = Path(__file__).parents[2] / "examples"
JARS = Path(__file__).parents[2] / "build" / "kafka" / "plain-java"
PARTITIONS = 2
PATIENCE_S = 120.0


class System:
    """A coordinator and the owners of two partitions, in this process, on topics of their own."""

    def __init__(self, bootstrap: str, directory: Path, stack: ExitStack) -> None:
        self._prefix = f"test-{secrets.token_hex(6)}."
        self._bootstrap = bootstrap
        settings = KafkaSettings(bootstrap, {"topic.prefix": self._prefix})
        create_or_verify(settings, PARTITIONS)
        self.log = KafkaLog(settings)
        stack.callback(self.log.close)
        stack.callback(RequestsRole(self.log, directory / "requests.sqlite", wall_clock_us).close)
        for number in range(PARTITIONS):
            owner = PartitionOwner(self.log, partial(SqliteStore, directory / f"{number}.sqlite"), number)
            thread = threading.Thread(target=owner.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(owner.stop)

    def send(self, service: str, count: int) -> None:
        """Create invocations, which stay ready, since there are no participants."""
        entries = []
        for _ in range(count):
            id = ids.invocation_id(secrets.randbits(64), secrets.randbits(128))
            invoke = messages.Invoke(id=id, service=service, handler="run", type=0)
            partition = ids.partition_of(id, PARTITIONS)
            entries.append(Entry(Stream.COMMANDS, partition, messages.encode(invoke)))
        self.log.append(entries)

    def run(self, *command: str, cwd: Path) -> Sequence[str]:
        """The lines that a client prints."""
        env = os.environ | {"KAFKA_BOOTSTRAP": self._bootstrap, "TOPIC_PREFIX": self._prefix}
        done = subprocess.run(
            command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()


@pytest.fixture
def system(kafka: str, tmp_path: Path) -> Iterator[System]:
    with ExitStack() as stack:
        yield System(kafka, tmp_path, stack)


def test_a_batch_in_python_without_the_package(system: System) -> None:
    script = EXAMPLES / "plain-python" / "kill.py"
    assert "coordinator" not in {line.split()[1].split(".")[0] for line in imports(script.read_text("utf-8"))}
    system.send("Greeter", 30)
    system.send("Other", 5)
    told = [json.loads(line) for line in system.run(sys.executable, str(script), "Greeter", "ready", cwd=script.parent)]
    assert (told[-1]["state"], told[-1]["matched"], told[-1]["ended"]) == ("completed", 30, 30)
    again = [
        json.loads(line) for line in system.run(sys.executable, str(script), "Greeter", "ready", cwd=script.parent)
    ]
    assert again[-1].get("matched", 0) == 0


def test_a_batch_in_java(system: System) -> None:
    if not maven.there():
        say: Callable[[str], object] = pytest.fail if os.environ.get("CI") else pytest.skip
        say("the example in Java needs Java 17 and Maven: install them")
    jars = maven.fetched(EXAMPLES / "plain-java" / "pom.xml", JARS)
    system.send("Greeter", 30)
    system.send("Other", 5)
    told = system.run("java", "-cp", f"{jars}/*", "Kill.java", "Other", "ready", cwd=EXAMPLES / "plain-java")
    assert told[-1] == "completed {ended=5, matched=5}"


def imports(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.startswith(("import ", "from "))]
