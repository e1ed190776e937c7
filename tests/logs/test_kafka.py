"""The log on Kafka where it is not like the others: other clients, brokers that go away, topics that are replaced."""

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka import log as adapter
from coordinator.logs.kafka.appends import QUEUED_BYTES_MAX
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import Entry, LogError, LogReplacedError, LogUnreachableError, Record, Stream
from coordinator.model.limits import LOG_VALUE_BYTES_MAX
from tests.kafka import admin
from tests.kafka.broker import Broker, free_port

ANY = 1 << 30
PATIENCE_S = 60.0


def topics(bootstrap: str, **properties: str) -> KafkaSettings:
    """New topics on this broker."""
    settings = KafkaSettings(bootstrap, {"topic.prefix": f"test-{secrets.token_hex(6)}.", **properties})
    create_or_verify(settings, 2)
    return settings


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return topics(kafka)


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    with closing(KafkaLog(settings)) as opened:
        yield opened


def command(value: bytes) -> list[Entry]:
    return [Entry(Stream.COMMANDS, 0, value)]


def read(log: KafkaLog, stream: Stream = Stream.COMMANDS, start: int = 0) -> list[Record]:
    found: list[Record] = []
    while run := log.read(stream, 0, start + len(found), records_max=1_000, bytes_max=ANY):
        found += run
    return found


class TestOpening:
    def test_topics_that_are_missing_are_named_with_what_makes_them(self, kafka: str) -> None:
        settings = KafkaSettings(kafka, {"topic.prefix": "nobody-made."})
        with pytest.raises(LogError, match=r"has no nobody-made\.requests.*coordinator topics create --log kafka://"):
            KafkaLog(settings)

    def test_where_no_broker_answers_it_says_so(self) -> None:
        with pytest.raises(LogUnreachableError, match=r"no broker answers at 127\.0\.0\.1"):
            KafkaLog(KafkaSettings(f"127.0.0.1:{free_port()}"))


class TestOthers:
    def test_what_another_client_has_appended_is_read_at_once(self, settings: KafkaSettings, log: KafkaLog) -> None:
        with closing(KafkaLog(settings)) as other:
            for number in range(20):
                other.append(command(b"%d" % number))
                assert [record.value for record in read(log, start=number)] == [b"%d" % number]
            assert log.identity == other.identity

    def test_what_another_has_trimmed_is_not_jumped_over(self, settings: KafkaSettings, log: KafkaLog) -> None:
        with closing(KafkaLog(settings)) as other:
            other.append([Entry(Stream.COMMANDS, 0, b"x")] * 10)
            other.trim(Stream.COMMANDS, 0, 5)
        with pytest.raises(LogError, match="position 3 of commands/0 was trimmed, 5 is the first left"):
            log.read(Stream.COMMANDS, 0, 3, records_max=1, bytes_max=ANY)

    def test_compressed_batches_are_read_like_others(self, kafka: str) -> None:
        with closing(KafkaLog(topics(kafka, **{"compression.type": "gzip"}))) as log:
            log.append([Entry(Stream.COMMANDS, 0, b"x" * 1_000)] * 500)
            assert read(log)[499].value == b"x" * 1_000

    @pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
    def test_whatever_others_compress_with_is_read(self, settings: KafkaSettings, log: KafkaLog, codec: str) -> None:
        async def produce() -> None:
            producer = AIOKafkaProducer(**settings.client(), compression_type=codec)
            await producer.start()
            await producer.send_and_wait(settings.topic(Stream.REQUESTS), codec.encode() * 1_000, partition=0)
            await producer.stop()

        asyncio.run(produce())
        assert [record.value for record in read(log, Stream.REQUESTS)] == [codec.encode() * 1_000]

    def test_positions_stay_dense_where_somebody_used_transactions(
        self, settings: KafkaSettings, log: KafkaLog
    ) -> None:
        """The markers and what was taken back are empty records, and the end is reached behind them."""
        topic = settings.topic(Stream.REQUESTS)

        async def transactions() -> None:
            producer = AIOKafkaProducer(**settings.client(), transactional_id=secrets.token_hex(4))
            await producer.start()
            for value, commits in ((b"a", True), (b"taken back", False), (b"b", True)):
                await producer.begin_transaction()
                await producer.send_and_wait(topic, value, partition=0)
                await (producer.commit_transaction() if commits else producer.abort_transaction())
            await producer.stop()

        asyncio.run(transactions())
        deadline = time.monotonic() + PATIENCE_S
        while log.bounds(Stream.REQUESTS, 0).end < 6 and time.monotonic() < deadline:
            pass  # the last marker follows the commit
        found = read(log, Stream.REQUESTS)
        assert [record.position for record in found] == list(range(6))
        assert [record.value for record in found] == [b"a", b"", b"", b"", b"b", b""]
        assert [record.position for record in read(log, Stream.REQUESTS, start=5)] == [5], "the marker by itself"
        assert log.append([Entry(Stream.REQUESTS, 0, b"c")]) == [6]
        assert log.wait(Stream.REQUESTS, 0, 6, PATIENCE_S)
        assert read(log, Stream.REQUESTS)[6].value == b"c"


class TestAnotherLogUnderTheSameName:
    @pytest.fixture(autouse=True)
    def look_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(adapter, "LOOK_EVERY_S", 0.1)

    def until_replaced(self, log: KafkaLog) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            log.wait(Stream.DELIVERIES, 0, 0, 0.1)
        pytest.fail("nothing was noticed")

    def test_a_topic_that_was_made_anew_is_noticed(self, settings: KafkaSettings, log: KafkaLog) -> None:
        identity, topic = log.identity, settings.topic(Stream.COMMANDS)
        log.append(command(b"old"))
        admin.make_anew(settings, 2, topic)
        with pytest.raises(LogReplacedError, match=r"commands.* was made anew|commands.* the topic was made anew"):
            self.until_replaced(log)
        for call in (
            lambda: log.append(command(b"new")),
            lambda: log.read(Stream.COMMANDS, 0, 0, records_max=1, bytes_max=ANY),
        ):
            with pytest.raises(LogReplacedError):
                call()
        with closing(KafkaLog(settings)) as other:
            assert other.identity != identity
            assert read(other) == []

    def test_another_number_of_partitions_is_noticed(self, settings: KafkaSettings, log: KafkaLog) -> None:
        topic = settings.topic(Stream.COMMANDS)
        admin.enlarge(settings, topic, 3)
        with pytest.raises(LogReplacedError, match=r"commands.* another number of partitions"):
            self.until_replaced(log)
        with pytest.raises(LogError, match=r"deliveries .* has 2 partitions, and .*commands has 3; .* begin anew"):
            KafkaLog(settings)
        admin.enlarge(settings, settings.topic(Stream.DELIVERIES), 3)
        with closing(KafkaLog(settings)) as other:
            assert other.identity != log.identity, "ids are routed otherwise"
        admin.enlarge(settings, settings.topic(Stream.REQUESTS), 2)
        with pytest.raises(LogError, match=r"requests .* has 2 partitions, and needs exactly one"):
            KafkaLog(settings)


class TestTopics:
    def test_each_difference_is_said(self, kafka: str) -> None:
        settings = KafkaSettings(kafka, {"topic.prefix": f"test-{secrets.token_hex(6)}."})
        wrong = NewTopic(settings.topic(Stream.PROGRESS), 2, 1, topic_configs={"retention.ms": "1000"})
        admin.administer(settings, lambda client: client.create_topics([wrong]))
        assert sum(topic.created for topic in create_or_verify(settings, 2)) == 5
        found = {topic.topic: topic for topic in create_or_verify(settings)}
        assert not any(topic.created for topic in found.values())
        different = [topic for topic in found.values() if topic.differences]
        assert [topic.topic for topic in different] == [settings.topic(Stream.PROGRESS)]
        assert different[0].differences == [
            "it has 2 partitions and 1 are wanted; only a new topic can have others",
            "message.timestamp.type is CreateTime and has to be LogAppendTime; set it with kafka-configs.sh --alter",
            "max.message.bytes is 1048588 and has to be 1049600; set it with kafka-configs.sh --alter",
            "retention.ms is 1000 and has to be -1; set it with kafka-configs.sh --alter",
        ]


@pytest.fixture(scope="class")
def own(own_brokers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


def append_surely(log: KafkaLog, value: bytes) -> None:
    """As callers do it: again, until the log has it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            log.append(command(value))
            return
        except LogUnreachableError:
            assert time.monotonic() < deadline


class TestBrokerAway:
    def test_what_was_acknowledged_survives_a_killed_broker_and_nothing_comes_twice(self, own: Broker) -> None:
        with closing(KafkaLog(topics(own.bootstrap, **{"delivery.timeout.ms": "300000"}))) as log:
            log.append(command(b"before"))
            own.kill()
            outstanding = [log.submit(command(b"%d" % number)) for number in range(100)]
            own.start()
            assert [future.result(PATIENCE_S * 4) for future in outstanding] == [[1 + number] for number in range(100)]
            assert [record.value for record in read(log)] == [b"before", *(b"%d" % number for number in range(100))]

    def test_an_append_that_takes_too_long_fails_and_the_log_goes_on(self, own: Broker) -> None:
        times = {"delivery.timeout.ms": "1000", "request.timeout.ms": "1000"}
        settings = topics(own.bootstrap)
        with closing(KafkaLog(KafkaSettings(own.bootstrap, settings.properties | times))) as log:
            append_surely(log, b"before")
            own.pause()
            with pytest.raises(LogUnreachableError, match="not answered in time"):
                log.append(command(b"late"))
            with pytest.raises(LogUnreachableError):
                log.bounds(Stream.COMMANDS, 0)
            own.resume()
            append_surely(log, b"after")
            found = [record.value for record in read(log)]
            assert found[0] == b"before"
            assert found[-1] == b"after"
            assert set(found) <= {b"before", b"late", b"after"}

    def test_what_has_failed_is_not_kept_until_the_broker_is_back(self, own: Broker) -> None:
        times = {"delivery.timeout.ms": "1000"}
        with closing(KafkaLog(KafkaSettings(own.bootstrap, topics(own.bootstrap).properties | times))) as log:
            append_surely(log, b"before")
            own.pause()
            try:
                value = b"queued behind what is under way and what does not fit beside it"
                kept = sys.getrefcount(value)
                largest = bytes(LOG_VALUE_BYTES_MAX)
                for failed in [log.submit(command(each)) for each in (largest, largest, value)]:
                    assert isinstance(failed.exception(PATIENCE_S), LogUnreachableError)
                deadline = time.monotonic() + PATIENCE_S
                while sys.getrefcount(value) > kept:
                    assert time.monotonic() < deadline
            finally:
                own.resume()

    def test_an_event_loop_is_refused_what_a_thread_would_wait_for(self, own: Broker) -> None:
        a_lot = [Entry(Stream.COMMANDS, 0, bytes(1_000_000))]
        with closing(KafkaLog(topics(own.bootstrap))) as log:
            append_surely(log, b"before")
            own.pause()

            async def submit_without_end() -> None:
                for _ in range(2 * QUEUED_BYTES_MAX // 1_000_000):
                    log.submit(a_lot)

            try:
                with pytest.raises(LogError, match="too much to take"):
                    asyncio.run(submit_without_end())
            finally:
                own.resume()

    def test_closing_does_not_wait_for_a_broker_that_hangs(self, own: Broker) -> None:
        log = KafkaLog(topics(own.bootstrap, **{"delivery.timeout.ms": "300000"}))
        append_surely(log, b"before")
        own.pause()
        try:
            under_way = log.submit(command(b"under way"))
            log.close()
            with pytest.raises(LogUnreachableError, match="closed before the brokers had answered"):
                under_way.result(0)
        finally:
            own.resume()
