"""The topics of a log: as they have to be, made where there are none, compared where there are.

What a topic has to be follows from what the log promises: append time is the brokers' (`LogAppendTime`), nothing is
dropped but by trimming (`cleanup.policy=delete`, no retention by time or size), nothing acknowledged is lost in an
election (`unclean.leader.election.enable=false`, `min.insync.replicas`), and the largest record goes.

The changelog of the coordinator's table is not of the log, and can be made again from it. It is compacted, but for what
is newer than `COMPACTION_LAG_MS`: in that time its owner finds and mends what a replaced one has written.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.appends import BATCH_BYTES_MAX
from coordinator.logs.kafka.errors import as_log_error, errors_of
from coordinator.logs.kafka.loop import Loop
from coordinator.logs.kafka.settings import KafkaSettings, SettingsError
from coordinator.logs.port import LogError, Stream
from coordinator.model.limits import PARTITIONS_MAX

PARTITIONED: Final = (Stream.COMMANDS, Stream.DELIVERIES)
"""These have a partition for each partition of the system, the others one."""
PARTITIONS_DEFAULT: Final = 4
REPLICAS_DEFAULT: Final = 3
COMPACTION_LAG_MS: Final = 60 * 60 * 1_000
SEGMENT_BYTES: Final = 64 << 20
"""Of the changelog: its newest segment is never compacted, and is read whole at each start."""
_LOOK_EVERY_S: Final = 0.05


class Spec(NamedTuple):
    """How one topic is to be."""

    partitions: int
    settings: dict[str, str]


class Wanted(NamedTuple):
    """How the topics are to be."""

    partitions: int
    replicas: int
    min_in_sync: int

    def topics(self, settings: KafkaSettings) -> dict[str, Spec]:
        """All of them, by name."""
        streams = {settings.topic(stream): Spec(self._count(stream), self._stream) for stream in Stream}
        return streams | {settings.changelog: Spec(1, self._changelog)}

    def _count(self, stream: Stream) -> int:
        return self.partitions if stream in PARTITIONED else 1

    @property
    def _every(self) -> dict[str, str]:
        """What each topic is set to. They are set even where they are Kafka's defaults, which a broker may change."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(self.min_in_sync),
            "max.message.bytes": str(BATCH_BYTES_MAX),
            "compression.type": "producer",
        }

    @property
    def _stream(self) -> dict[str, str]:
        return self._every | {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

    @property
    def _changelog(self) -> dict[str, str]:
        return self._every | {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(COMPACTION_LAG_MS),
            "min.cleanable.dirty.ratio": "0.1",
            "segment.bytes": str(SEGMENT_BYTES),
        }


class Found(NamedTuple):
    """What became of one topic."""

    topic: str
    partitions: int
    created: bool
    differences: list[str]
    """One sentence each; none when it is as it has to be."""


def create_or_verify(
    settings: KafkaSettings,
    partitions: int | None = None,
    replicas: int | None = None,
    min_in_sync: int | None = None,
) -> list[Found]:
    """Make the topics that are not there and compare the others, which are left as they are.

    Where nothing is said there are as many partitions as there are already, or 4; three replicas, or as many as
    there are brokers; and all of those but one must be in sync. Raises LogError when it cannot be done, SettingsError
    when the numbers cannot be meant.
    """
    if partitions is not None and not 1 <= partitions <= PARTITIONS_MAX:
        raise SettingsError(f"a log has 1 to {PARTITIONS_MAX} partitions, not {partitions}")
    loop = Loop("kafka-topics")
    try:
        return loop.call(_create_or_verify(settings, partitions, replicas, min_in_sync))
    finally:
        loop.close()


def delete(settings: KafkaSettings) -> None:
    """Remove all topics of a log, which nobody may use any more. Those that are not there are no error.

    Raises LogError when it cannot be done.
    """
    loop = Loop("kafka-topics")
    try:
        loop.call(_delete(settings))
    finally:
        loop.close()


async def _delete(settings: KafkaSettings) -> None:
    client = AIOKafkaClient(**settings.client())
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        with errors_of(settings, "deleting the topics"):
            await cluster.connect(settings, client)
            await admin.start()
            answer = await admin.delete_topics(_names(settings))
            for _, code in answer.topic_error_codes:
                if code not in (errors.NoError.errno, errors.UnknownTopicOrPartitionError.errno):
                    raise errors.for_code(code)
            await _until(settings, client, lambda there: not there)
    finally:
        await admin.close()
        await client.close()


def _names(settings: KafkaSettings) -> list[str]:
    """The topics of a log."""
    return [*map(settings.topic, Stream), settings.changelog]


async def _create_or_verify(
    settings: KafkaSettings, partitions: int | None, replicas: int | None, min_in_sync: int | None
) -> list[Found]:
    client = AIOKafkaClient(**settings.client())
    admin = AIOKafkaAdminClient(**settings.client())
    names = _names(settings)
    try:
        with errors_of(settings, "looking at the topics"):
            await cluster.connect(settings, client)
            await admin.start()
            async with asyncio.timeout(settings.ms("request.timeout.ms") / 1_000):
                there, configs = await _there(settings, client, admin)
        commands = there.topics.get(settings.topic(Stream.COMMANDS))
        copies = replicas or min(REPLICAS_DEFAULT, there.brokers)
        wanted = Wanted(
            partitions or (PARTITIONS_DEFAULT if commands is None else commands.partitions),
            copies,
            min_in_sync or max(1, copies - 1),
        )
        if wanted.min_in_sync > wanted.replicas:
            raise SettingsError(
                f"of {wanted.replicas} replicas {wanted.min_in_sync} can never be in sync; give fewer, or a higher "
                "--replication-factor"
            )
        found: list[Found] = []
        new: list[NewTopic] = []
        for name, spec in wanted.topics(settings).items():
            topic = there.topics.get(name)
            if topic is None:
                new.append(NewTopic(name, spec.partitions, wanted.replicas, topic_configs=spec.settings))
                found.append(Found(name, spec.partitions, True, []))
            else:
                differences = list(_differences(topic, configs[name], spec, wanted.replicas))
                found.append(Found(name, topic.partitions, False, differences))
        if new:
            await _create(settings, admin, new)
            with errors_of(settings, "waiting for the new topics"):
                await _until(
                    settings,
                    client,
                    lambda there: len(there) == len(names) and all(topic.led for topic in there.values()),
                )
        return found
    finally:
        await admin.close()
        await client.close()


async def _there(
    settings: KafkaSettings, client: AIOKafkaClient, admin: AIOKafkaAdminClient
) -> tuple[cluster.Cluster, dict[str, dict[str, str]]]:
    """The topics that there are, and their settings. One that is being deleted is waited for."""
    while True:
        there = await cluster.describe(client, _names(settings))
        try:
            return there, await _configs(admin, there.topics)
        except errors.UnknownTopicOrPartitionError:
            await asyncio.sleep(_LOOK_EVERY_S)


async def _until(
    settings: KafkaSettings, client: AIOKafkaClient, so: Callable[[Mapping[str, cluster.Topic]], bool]
) -> None:
    """What the controller has done the brokers learn a little later. Raises TimeoutError when they do not."""
    async with asyncio.timeout(settings.ms("request.timeout.ms") / 1_000):
        while True:
            if so((await cluster.describe(client, _names(settings))).topics):
                return
            await asyncio.sleep(_LOOK_EVERY_S)


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


def _differences(topic: cluster.Topic, config: Mapping[str, Any], spec: Spec, replicas: int) -> Iterator[str]:
    if topic.partitions != spec.partitions:
        yield f"it has {topic.partitions} partitions and {spec.partitions} are wanted; only a new topic can have others"
    if topic.replicas < replicas:
        yield f"it has {topic.replicas} replicas and {replicas} are wanted; reassign its partitions"
    for name, value in spec.settings.items():
        if name == "max.message.bytes" and int(config[name]) >= int(value):
            continue
        if config[name] != value:
            yield f"{name} is {config[name]} and has to be {value}; set it with kafka-configs.sh --alter"
