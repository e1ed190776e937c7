"""What a cluster says of itself and of its topics, and by what a log is recognized.

A topic that is deleted and made again has the same name, and offsets from 0: to whoever holds positions of the old one
it is another log. Kafka tells the two apart by the topic's id, which the metadata request carries from version 10 on;
aiokafka speaks version 5, so the newer one is defined here, over aiokafka's own types.
"""

import hashlib
import uuid
from collections.abc import Iterable
from io import BytesIO
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from coordinator.logs.kafka.settings import KafkaSettings


class Topic(NamedTuple):
    """A topic as the cluster has it."""

    id: uuid.UUID
    partitions: int
    replicas: int
    """The smallest number of any partition."""
    led: bool
    """Whether every partition has a leader now."""

    def same_as(self, other: "Topic") -> bool:
        """Whether positions in the one are positions in the other, and records go to the same partitions."""
        return self.id == other.id and self.partitions == other.partitions


class Cluster(NamedTuple):
    """What was found."""

    id: str
    brokers: int
    topics: dict[str, Topic]
    """Those of the ones asked for that there are."""


def identity(cluster: Cluster) -> str:
    """Names a log: another one for another cluster, and when a topic was made anew or has other partitions."""
    ids = "".join(f"{name}={topic.id}/{topic.partitions}\n" for name, topic in sorted(cluster.topics.items()))
    return f"kafka:{cluster.id}:{hashlib.sha256(ids.encode()).hexdigest()[:32]}"


class Client(Protocol):
    """Any of aiokafka's, which have no types."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


async def started(client: C) -> C:
    """The client, connected; one that cannot be is taken down again. Raises KafkaError."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise
    return client


async def connect(settings: KafkaSettings, client: AIOKafkaClient) -> None:
    """Find the cluster. Raises KafkaError or OSError, of the first broker that was given if none is good.

    aiokafka keeps to itself why it could not use a broker, so that one is tried again to learn it.
    """
    try:
        await client.bootstrap()
    except errors.KafkaConnectionError:
        host, port, _ = client.hosts[0]
        not_for_one = ("bootstrap_servers", "retry_backoff_ms", "metadata_max_age_ms", "connections_max_idle_ms")
        arguments = {name: value for name, value in settings.client().items() if name not in not_for_one}
        connection = await create_conn(host, port, **arguments)
        connection.close()
        raise


async def describe(client: AIOKafkaClient, names: Iterable[str]) -> Cluster:
    """Ask any broker of the cluster. Raises KafkaError."""
    try:
        response = await client.send(client.get_random_node(), _MetadataRequest(list(names)))
    except NotImplementedError:  # what aiokafka makes of a broker that does not know this version
        raise errors.IncompatibleBrokerVersion("it is older than Kafka 3.1, which is the first that will do") from None
    found: dict[str, Topic] = {}
    for code, name, id, _, partitions, *_ in response.topics:
        error = errors.for_code(code)
        if error in (errors.UnknownTopicOrPartitionError, errors.LeaderNotAvailableError):
            continue
        if error is not errors.NoError:
            raise error(name)
        replicas = min((len(partition[4]) for partition in partitions), default=0)
        found[name] = Topic(id, len(partitions), replicas, all(partition[2] >= 0 for partition in partitions))
    return Cluster(response.cluster_id, len(response.brokers), found)


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV12]):  # type: ignore[misc]
    API_KEY: ClassVar[int] = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: Any) -> Any:
        no_tags: dict[int, bytes] = {}
        topics = [(uuid.UUID(int=0), name, no_tags) for name in self._names]
        return request_struct_class(topics, False, False, no_tags)
