"""What the job is done on: one process with the log in a file, or several on Kafka. Each ends with its block."""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from coordinator.client import Client
from coordinator.client.views import PartitionInfo
from coordinator.demo.processes import Server, await_up
from coordinator.logs.kafka import KafkaLog, KafkaSettings, topics
from coordinator.logs.kafka.settings import variable
from coordinator.logs.port import LogError, ReadableLog
from coordinator.model.errors import CoordinatorError
from coordinator.runtime.layout import DataDirectory

_OF_ONE_PROCESS: Final = ("client.id", "group.instance.id")
"""Settings that several processes must not share."""


@dataclass(frozen=True)
class System:
    """A server that takes commands, and where its audit finds what it has written."""

    url: str
    story: str
    """What was started."""
    directories: Mapping[str, DataDirectory]
    """Where there are stores, by the owner of partitions that has them; all owners share one with the name ''."""
    log: Callable[[], AbstractContextManager[ReadableLog]]
    """Opens the log for reading."""

    async def stores(self) -> list[Path]:
        """The store of each partition, where its owner has it now. Raises CoordinatorError when one has no owner."""
        async with Client(self.url) as client:
            return [self._store(one) for one in await client.partitions()]

    def _store(self, one: PartitionInfo) -> Path:
        directory = self.directories.get(one.owner or "", self.directories.get(""))
        if directory is None:
            raise CoordinatorError(f"partition {one.partition} has no owner now, so its store is nowhere; try again")
        return directory.store(one.partition)


@contextlib.contextmanager
def embedded(folder: Path, partitions: int) -> Iterator[System]:
    """One process, from when it takes commands. Raises CoordinatorError when it does not come up."""
    server = Server(folder, "data", ["--partitions", str(partitions)])
    with server.running() as started:
        await_up(lambda http: _ready(http, server), [started], "the server did not come up")
        story = (
            f"`coordinator serve` answers at {server.url}: {partitions} partitions on the embedded log, its files in "
            f"{folder}, which goes away with the demo."
        )
        yield System(server.url, story, {"": server.data}, server.data.read_log)


@contextlib.contextmanager
def on_kafka(folder: Path, partitions: int, cluster: KafkaSettings) -> Iterator[System]:
    """Two workers, a coordinator and a process that serves HTTP, from when they take commands and both workers work.

    They have topics of their own on the cluster. Raises CoordinatorError when they do not come up, LogError when the
    topics cannot be made.
    """
    kafka = _of_its_own(cluster)
    given = {variable(name): value for name, value in kafka.properties.items()}

    def server(name: str, role: str) -> Server:
        return Server(folder, name, ["--log", f"kafka://{kafka.bootstrap}", "--roles", role], given)

    workers = [server("worker-1", "partitions"), server("worker-2", "partitions")]
    front = server("http", "http")
    servers = [*workers, server("coordinator", "requests"), front]
    with _topics(kafka, partitions), ExitStack() as running:
        started = [running.enter_context(one.running()) for one in servers]
        wanted = {worker.address for worker in workers}
        await_up(
            lambda http: _ready(http, front) and set(_owners(http, front)) == wanted,
            started,
            "the processes on Kafka did not come up",
        )
        with httpx.Client(trust_env=False) as http:
            owners = _owners(http, front)
        story = (
            f"The log is on Kafka, at {kafka.bootstrap}, in topics that begin with {kafka.prefix} and go away with the "
            f"demo. Four processes are one server: two workers, which share its {partitions} partitions "
            f"({_shares(workers, owners)}) and keep their stores in {folder}, each in a directory of its own; the "
            f"coordinator; and the one that answers users, at {front.url}."
        )
        directories = {worker.address: worker.data for worker in workers}
        yield System(front.url, story, directories, lambda: contextlib.closing(KafkaLog(kafka)))


def _of_its_own(cluster: KafkaSettings) -> KafkaSettings:
    """The same cluster, with topics and groups that nobody else has."""
    kept = {name: value for name, value in cluster.properties.items() if name not in _OF_ONE_PROCESS}
    return replace(cluster, properties={**kept, "topic.prefix": f"{cluster.prefix}demo-{secrets.token_hex(4)}."})


@contextlib.contextmanager
def _topics(kafka: KafkaSettings, partitions: int) -> Iterator[None]:
    """Topics that go away with the block; with the brokers, they are left behind."""
    try:
        topics.create_or_verify(kafka, partitions)
        yield
    finally:
        with contextlib.suppress(LogError):
            topics.delete(kafka)


def _ready(http: httpx.Client, server: Server) -> bool:
    return http.get(f"{server.url}/ready").is_success


def _owners(http: httpx.Client, front: Server) -> list[str]:
    """The address of each partition's owner."""
    return [one["owner"] for one in http.get(f"{front.url}/partitions").json()]


def _shares(workers: Sequence[Server], owners: Sequence[str]) -> str:
    """`0 and 2 are with 127.0.0.1:7001, …`."""
    shares = []
    for worker in workers:
        numbers = [str(partition) for partition, owner in enumerate(owners) if owner == worker.address]
        shares.append(f"{' and '.join(numbers)} are with {worker.address}")
    return ", ".join(shares)
