"""The topics of a log: as they have to be, made where there are none, compared where there are.

What a topic has to be follows from what the log promises: append time is the brokers' (`LogAppendTime`), nothing is
dropped but by trimming (`cleanup.policy=delete`, no retention by time or size), nothing acknowledged is lost in an
election (`unclean.leader.election.enable=false`, `min.insync.replicas`), and the largest record goes.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.appends import BATCH_BYTES_MAX
from coordinator.logs.kafka.errors import as_log_error, errors_of
from coordinator.logs.kafka.loop import Loop
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import LogError, Stream

PARTITIONED: Final = (Stream.COMMANDS, Stream.DELIVERIES)
"""These have a partition for each partition of the system, the others one."""
_LOOK_EVERY_S: Final = 0.05


class Wanted(NamedTuple):
    """How a log's topics are to be."""

    partitions: int
    replicas: int
    min_in_sync: int

    def count(self, stream: Stream) -> int:
        """How many partitions the stream has."""
        return self.partitions if stream in PARTITIONED else 1

    @property
    def settings(self) -> dict[str, str]:
        """What each topic is set to. They are set even where they are Kafka's defaults, which a broker may change."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(self.min_in_sync),
            "max.message.bytes": str(BATCH_BYTES_MAX),
        }


class Found(NamedTuple):
    """What became of one topic."""

    topic: str
    created: bool
    differences: list[str]
    """One sentence each; none when it is as it has to be."""


def create_or_verify(settings: KafkaSettings, wanted: Wanted) -> list[Found]:
    """Make the topics that are not there and compare the others, which are left as they are.

    Raises LogError when that cannot be done.
    """
    loop = Loop("kafka-topics")
    try:
        return loop.call(_create_or_verify(settings, wanted))
    finally:
        loop.close()


async def _create_or_verify(settings: KafkaSettings, wanted: Wanted) -> list[Found]:
    client = AIOKafkaClient(**settings.client())
    admin = AIOKafkaAdminClient(**settings.client())
    names = {settings.topic(stream): stream for stream in Stream}
    try:
        with errors_of(settings, "looking at the topics"):
            await client.bootstrap()
            await admin.start()
            there = (await cluster.describe(client, names)).topics
            configs = await _configs(admin, there)
        missing = [name for name in names if name not in there]
        if missing:
            await _create(settings, admin, [_new(name, wanted.count(names[name]), wanted) for name in missing])
            with errors_of(settings, "waiting for the new topics"):
                async with asyncio.timeout(settings.ms("request.timeout.ms") / 1_000):
                    await _until_there(client, names)
        return [
            Found(
                name,
                name in missing,
                [] if name in missing else list(_differences(there[name], configs[name], wanted, stream)),
            )
            for name, stream in names.items()
        ]
    finally:
        await admin.close()
        await client.close()


async def _until_there(client: AIOKafkaClient, names: Collection[str]) -> None:
    """The controller has made them; the brokers learn of it a little later."""
    while True:
        there = (await cluster.describe(client, names)).topics
        if len(there) == len(names) and all(topic.led for topic in there.values()):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _new(name: str, partitions: int, wanted: Wanted) -> NewTopic:
    return NewTopic(name, partitions, wanted.replicas, topic_configs=wanted.settings)


async def _create(settings: KafkaSettings, admin: AIOKafkaAdminClient, new: list[NewTopic]) -> None:
    with errors_of(settings, "making the topics"):
        answer = await admin.create_topics(new)
    for name, code, message in answer.topic_errors:
        error = errors.for_code(code)
        if error is errors.InvalidReplicationFactorError:
            raise LogError(
                f"making {name} failed: {message} Give --replication-factor a number of brokers that there are"
            )
        if error is not errors.NoError:
            raise as_log_error(settings, f"making {name}", error(message))


async def _configs(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources) if resources else []:
        for code, message, _, name, entries in answer.resources:
            error = errors.for_code(code)
            if error is not errors.NoError:
                raise error(message or name)
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _differences(topic: cluster.Topic, config: Mapping[str, Any], wanted: Wanted, stream: Stream) -> Iterator[str]:
    if topic.partitions != wanted.count(stream):
        count = wanted.count(stream)
        yield f"it has {topic.partitions} partitions and {count} are wanted; only a new topic can have others"
    if topic.replicas < wanted.replicas:
        yield f"it has {topic.replicas} replicas and {wanted.replicas} are wanted; reassign its partitions"
    for name, value in wanted.settings.items():
        if name == "max.message.bytes" and int(config[name]) >= int(value):
            continue
        if config[name] != value:
            yield f"{name} is {config[name]} and has to be {value}; set it with kafka-configs.sh --alter"
