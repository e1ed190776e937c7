"""What every log does. An adapter is added here by a class that opens one, and by its name in `ADAPTERS`."""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import (
    SUBMIT_BYTES_MAX,
    SUBMIT_ENTRIES_MAX,
    Bounds,
    Entry,
    Log,
    LogError,
    Record,
    RecordTooLargeError,
    Stream,
    TrimmedError,
)
from coordinator.logs.remote import LogServer, RemoteLog
from coordinator.model.limits import LOG_VALUE_BYTES_MAX

PARTITIONS = {Stream.COMMANDS: 3, Stream.DELIVERIES: 3}
ANY = 1 << 30
PATIENCE_S = 60.0  # for what is awaited; no test is supposed to need it


class Adapter:
    """A log that can be opened again."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log"
        self.log: Log = self._open()

    def reopen(self) -> Log:
        self.close()
        self.log = self._open()
        return self.log

    def close(self) -> None:
        self.log.close()

    def _open(self) -> Log:
        raise NotImplementedError


class Embedded(Adapter):
    """The log in this process."""

    def _open(self) -> Log:
        return EmbeddedLog.create_or_open(self.path, partitions=PARTITIONS)


class Remote(Adapter):
    """The same log through a socket, as another process has it."""

    def close(self) -> None:
        super().close()
        self._server.close()
        self._owner.close()

    def _open(self) -> Log:
        self._owner = EmbeddedLog.create_or_open(self.path, partitions=PARTITIONS)
        self._server = LogServer(self._owner)
        ours, theirs = socket.socketpair()
        self._server.attach(ours)
        return RemoteLog(self.path, theirs)


class Kafka(Adapter):
    """Topics of its own on a broker."""

    bootstrap: str

    def __init__(self, directory: Path) -> None:
        self._settings = KafkaSettings(self.bootstrap, {"topic.prefix": f"test-{secrets.token_hex(6)}."})
        create_or_verify(self._settings, 3)
        super().__init__(directory)

    def _open(self) -> Log:
        return KafkaLog(self._settings)


ADAPTERS = [Embedded, Remote, Kafka]


@pytest.fixture(params=ADAPTERS)
def adapter_type(request: pytest.FixtureRequest) -> type[Adapter]:
    if request.param is Kafka:
        Kafka.bootstrap = request.getfixturevalue("kafka")
    kind: type[Adapter] = request.param
    return kind


@pytest.fixture
def adapter(adapter_type: type[Adapter], tmp_path: Path) -> Iterator[Adapter]:
    opened = adapter_type(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def log(adapter: Adapter) -> Log:
    return adapter.log


def commands(*values: bytes, partition: int = 0) -> list[Entry]:
    return [Entry(Stream.COMMANDS, partition, value) for value in values]


def numbered(count: int, *, partition: int = 0) -> list[Entry]:
    return commands(*(b"%d" % number for number in range(count)), partition=partition)


def records(log: Log, *, start: int = 0, partition: int = 0) -> list[Record]:
    """All of them, read in runs that are too small on purpose."""
    found: list[Record] = []
    while run := log.read(Stream.COMMANDS, partition, start + len(found), records_max=7, bytes_max=ANY):
        found += run
    return found


def values(log: Log, *, start: int = 0, partition: int = 0) -> list[bytes]:
    return [record.value for record in records(log, start=start, partition=partition)]


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    with_one_thread = ThreadPoolExecutor(1)
    outcome = with_one_thread.submit(call)
    with_one_thread.shutdown(wait=False)
    return outcome


class TestAppend:
    def test_positions_are_dense_from_zero_in_each_partition(self, log: Log) -> None:
        assert log.append(commands(b"a", b"b")) == [0, 1]
        assert log.append(commands(b"c")) == [2]
        assert log.append(commands(b"d", partition=1)) == [0]
        assert [record.position for record in records(log)] == [0, 1, 2]

    def test_records_are_read_in_the_order_of_the_appends(self, log: Log) -> None:
        outstanding = [log.submit(commands(b"%d" % number)) for number in range(1_000)]
        positions = [position for future in outstanding for position in future.result()]
        assert positions == list(range(1_000))
        assert values(log) == [b"%d" % number for number in range(1_000)]

    def test_one_append_may_span_partitions_and_its_positions_come_in_the_order_given(self, log: Log) -> None:
        log.append(commands(b"before", partition=1))
        mixed = [
            Entry(Stream.COMMANDS, 1, b"a"),
            Entry(Stream.COMMANDS, 0, b"b"),
            Entry(Stream.REQUESTS, 0, b"c"),
            Entry(Stream.COMMANDS, 1, b"d"),
        ]
        assert log.append(mixed) == [1, 0, 0, 2]
        assert values(log, partition=1) == [b"before", b"a", b"d"]
        assert values(log, partition=0) == [b"b"]

    def test_an_append_with_one_bad_entry_appends_nothing(self, log: Log) -> None:
        with pytest.raises(ValueError, match="commands/3"):
            log.append([*commands(b"good"), Entry(Stream.COMMANDS, 3, b"no such partition")])
        with pytest.raises(RecordTooLargeError):
            log.append(commands(b"good", b"x" * (LOG_VALUE_BYTES_MAX + 1)))
        assert log.bounds(Stream.COMMANDS, 0) == Bounds(0, 0)

    def test_nothing_to_append_is_appended_at_once(self, log: Log) -> None:
        assert log.append([]) == []

    def test_a_value_may_be_empty_or_any_bytes_up_to_the_limit(self, log: Log) -> None:
        every = [b"", "Größe ✓ 取消".encode(), bytes(range(256)), b"\x00", b"x" * LOG_VALUE_BYTES_MAX, b""]
        log.append(commands(*every))
        assert values(log) == every

    def test_one_append_is_bounded_as_a_whole(self, log: Log) -> None:
        largest = b"x" * LOG_VALUE_BYTES_MAX
        with pytest.raises(RecordTooLargeError):
            log.submit(commands(*[largest] * (SUBMIT_BYTES_MAX // LOG_VALUE_BYTES_MAX), b"x"))
        with pytest.raises(RecordTooLargeError):
            log.submit(commands(*[b""] * (SUBMIT_ENTRIES_MAX + 1)))
        assert log.append(commands(*[b""] * SUBMIT_ENTRIES_MAX))[-1] == SUBMIT_ENTRIES_MAX - 1
        assert len(log.append(commands(*[largest] * (SUBMIT_BYTES_MAX // LOG_VALUE_BYTES_MAX)))) == 16

    def test_an_append_cannot_be_taken_back(self, log: Log) -> None:
        future = log.submit(commands(b"a"))
        future.cancel()
        assert future.result() == [0]

    def test_what_is_acknowledged_can_be_read(self, log: Log) -> None:
        """The callback runs before anybody else learns of the append."""
        seen: Future[list[Record]] = Future()
        log.submit(commands(b"a")).add_done_callback(
            lambda done: in_thread(
                lambda: seen.set_result(log.read(Stream.COMMANDS, 0, done.result()[0], records_max=1, bytes_max=ANY))
            )
        )
        assert [record.value for record in seen.result(PATIENCE_S)] == [b"a"]

    def test_concurrent_appends_are_in_the_order_of_their_thread(self, log: Log) -> None:
        threads, each = 4, 50

        def append(thread: int) -> None:
            for number in range(each):
                value = b"%d %d" % (thread, number)
                log.append([*commands(value, value, partition=0), *commands(value, partition=1)])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(append, range(threads)))
        for partition, copies in ((0, 2), (1, 1)):
            found = values(log, partition=partition)
            assert len(found) == threads * each * copies
            for thread in range(threads):
                mine = [value for value in found if value.startswith(b"%d " % thread)]
                assert mine == [b"%d %d" % (thread, number // copies) for number in range(each * copies)]


class TestAppendTime:
    def test_it_is_the_time_of_the_append(self, log: Log) -> None:
        began_us = time.time_ns() // 1_000
        log.append(commands(b"a"))
        ended_us = time.time_ns() // 1_000
        [record] = records(log)
        assert began_us - 1_000 <= record.appended_at <= ended_us + 1_000

    def test_every_reader_gets_the_same(self, adapter: Adapter) -> None:
        adapter.log.append(numbered(100))
        first = records(adapter.log)
        assert records(adapter.reopen(), start=50) == first[50:]


class TestRead:
    def test_at_the_end_there_is_nothing(self, log: Log) -> None:
        assert log.read(Stream.COMMANDS, 0, 0, records_max=10, bytes_max=ANY) == []
        log.append(numbered(3))
        assert log.read(Stream.COMMANDS, 0, 3, records_max=10, bytes_max=ANY) == []
        assert log.read(Stream.COMMANDS, 0, 99, records_max=10, bytes_max=ANY) == []

    def test_at_most_so_many_records(self, log: Log) -> None:
        log.append(numbered(10))
        run = log.read(Stream.COMMANDS, 0, 4, records_max=3, bytes_max=ANY)
        assert [(record.position, record.value) for record in run] == [(4, b"4"), (5, b"5"), (6, b"6")]

    @pytest.mark.parametrize(
        ("bytes_max", "count"), [(0, 1), (1, 1), (99, 1), (199, 1), (200, 2), (299, 2), (300, 3), (ANY, 5)]
    )
    def test_at_most_so_many_bytes_but_at_least_one_record(self, log: Log, bytes_max: int, count: int) -> None:
        log.append(commands(*[b"x" * 100] * 5))
        assert len(log.read(Stream.COMMANDS, 0, 0, records_max=10, bytes_max=bytes_max)) == count

    def test_a_partition_that_does_not_exist_is_an_error(self, log: Log) -> None:
        for partition in (-1, 3):
            with pytest.raises(ValueError, match="commands"):
                log.read(Stream.COMMANDS, partition, 0, records_max=1, bytes_max=ANY)
            with pytest.raises(ValueError, match="commands"):
                log.bounds(Stream.COMMANDS, partition)
            with pytest.raises(ValueError, match="commands"):
                log.wait(Stream.COMMANDS, partition, 0, 0)
            with pytest.raises(ValueError, match="commands"):
                log.trim(Stream.COMMANDS, partition, 0)

    def test_what_was_read_once_is_read_again(self, log: Log) -> None:
        appended = in_thread(lambda: [log.append(commands(b"x", b"y")) for _ in range(20)])
        found: list[Record] = []
        while len(found) < 40:
            again = records(log)
            assert again[: len(found)] == found
            found = again
        appended.result(PATIENCE_S)

    def test_any_position_may_be_read_next(self, log: Log) -> None:
        log.append(numbered(1_000))
        for start in (999, 0, 500, 499, 998, 1):
            [record] = log.read(Stream.COMMANDS, 0, start, records_max=1, bytes_max=ANY)
            assert record.value == b"%d" % start


class TestWait:
    def test_what_is_there_need_not_be_waited_for(self, log: Log) -> None:
        log.append(numbered(3))
        assert log.wait(Stream.COMMANDS, 0, 2, 0)
        assert not log.wait(Stream.COMMANDS, 0, 3, 0)

    def test_the_time_runs_out(self, log: Log) -> None:
        assert not log.wait(Stream.COMMANDS, 0, 0, 0.01)

    def test_an_append_wakes_whoever_waits_for_its_position(self, log: Log) -> None:
        waiting = [in_thread(lambda: log.wait(Stream.COMMANDS, 1, 1, PATIENCE_S)) for _ in range(3)]
        log.append(commands(b"a", partition=1))
        log.append(commands(b"b", partition=1))
        assert [each.result(PATIENCE_S) for each in waiting] == [True] * 3

    def test_what_was_waited_for_can_be_read(self, log: Log) -> None:
        """A consumer that only ever waits and reads gets everything, without asking in between."""

        def consume() -> list[bytes]:
            found: list[bytes] = []
            while len(found) < 100:
                assert log.wait(Stream.COMMANDS, 0, len(found), PATIENCE_S)
                run = log.read(Stream.COMMANDS, 0, len(found), records_max=50, bytes_max=ANY)
                assert run
                found += [record.value for record in run]
            return found

        consumed = in_thread(consume)
        for number in range(100):
            log.append(commands(b"%d" % number))
        assert consumed.result(PATIENCE_S) == [b"%d" % number for number in range(100)]

    def test_an_own_append_is_never_waited_for(self, log: Log) -> None:
        log.wait(Stream.COMMANDS, 0, 0, 0)
        for position in range(100):
            log.append(commands(b""))
            assert log.wait(Stream.COMMANDS, 0, position, 0)

    def test_closing_wakes_who_waits(self, adapter: Adapter) -> None:
        log = adapter.log
        log.wait(Stream.COMMANDS, 0, 0, 0)
        started = threading.Event()

        def wait() -> None:
            started.set()
            log.wait(Stream.COMMANDS, 0, 0, PATIENCE_S)

        waiting = [in_thread(wait) for _ in range(4)]
        started.wait()
        time.sleep(0.05)  # so that some of them are in the midst of it
        log.close()
        for each in waiting:
            with pytest.raises(LogError):
                each.result(PATIENCE_S)

    def test_whatever_is_under_way_when_it_closes_ends_with_the_log_s_own_error(self, adapter: Adapter) -> None:
        def call_on(log: Log, call: Callable[[Log, int], object], partition: int, under_way: threading.Event) -> None:
            while True:
                call(log, partition)
                under_way.set()

        calls: list[Callable[[Log, int], object]] = [
            lambda log, partition: log.wait(Stream.COMMANDS, partition, 0, 0.2),
            lambda log, partition: log.wait(Stream.COMMANDS, partition, 7, 0.2),
            lambda log, partition: log.read(Stream.DELIVERIES, partition, 0, records_max=1, bytes_max=1),
            lambda log, partition: log.bounds(Stream.COMMANDS, partition),
            lambda log, partition: log.trim(Stream.DELIVERIES, partition, 0),
        ]
        for _ in range(3):
            log, events = adapter.log, [threading.Event() for _ in range(3 * len(calls))]
            under_way = [
                in_thread(partial(call_on, log, call, number % 3, event))
                for number, (call, event) in enumerate(zip(calls * 3, events, strict=True))
            ]
            for event in events:
                assert event.wait(PATIENCE_S)
            log.close()
            for each in under_way:
                with pytest.raises(LogError):
                    each.result(PATIENCE_S)
            adapter.reopen()


class TestTrim:
    def test_what_is_below_is_gone_and_what_is_not_stays(self, log: Log) -> None:
        log.append(numbered(10))
        log.trim(Stream.COMMANDS, 0, 4)
        assert log.bounds(Stream.COMMANDS, 0) == Bounds(4, 10)
        assert values(log, start=4) == [b"%d" % number for number in range(4, 10)]
        with pytest.raises(TrimmedError) as caught:
            log.read(Stream.COMMANDS, 0, 3, records_max=10, bytes_max=ANY)
        assert (caught.value.start, caught.value.first) == (3, 4)

    def test_other_partitions_keep_theirs(self, log: Log) -> None:
        log.append([*numbered(3, partition=0), *numbered(3, partition=1)])
        log.trim(Stream.COMMANDS, 0, 3)
        assert log.bounds(Stream.COMMANDS, 1) == Bounds(0, 3)
        assert len(records(log, partition=1)) == 3

    def test_it_only_moves_forward(self, log: Log) -> None:
        log.append(numbered(10))
        log.trim(Stream.COMMANDS, 0, 5)
        log.trim(Stream.COMMANDS, 0, 2)
        assert log.bounds(Stream.COMMANDS, 0) == Bounds(5, 10)

    def test_beyond_the_end_it_takes_all_there_is_and_no_position_comes_twice(self, log: Log) -> None:
        log.append(numbered(3))
        log.trim(Stream.COMMANDS, 0, 1_000)
        assert log.bounds(Stream.COMMANDS, 0) == Bounds(3, 3)
        assert log.read(Stream.COMMANDS, 0, 3, records_max=1, bytes_max=ANY) == []
        assert log.append(commands(b"next")) == [3]
        assert values(log, start=3) == [b"next"]

    def test_of_much_it_takes_every_record(self, log: Log) -> None:
        for _ in range(10):
            log.append(commands(*[b"x" * 100] * 2_000))
        log.trim(Stream.COMMANDS, 0, 19_999)
        with pytest.raises(TrimmedError):
            log.read(Stream.COMMANDS, 0, 19_998, records_max=1, bytes_max=ANY)
        assert len(records(log, start=19_999)) == 1


class TestReopening:
    def test_everything_is_still_there(self, adapter: Adapter) -> None:
        adapter.log.append([*numbered(5, partition=0), *numbered(3, partition=2)])
        before = [records(adapter.log, partition=partition) for partition in range(3)]
        log = adapter.reopen()
        assert [records(log, partition=partition) for partition in range(3)] == before
        assert log.append(commands(b"next", partition=2)) == [3]

    def test_positions_go_on_after_a_full_trim(self, adapter: Adapter) -> None:
        adapter.log.append(numbered(5))
        adapter.log.trim(Stream.COMMANDS, 0, 5)
        log = adapter.reopen()
        assert log.bounds(Stream.COMMANDS, 0) == Bounds(5, 5)
        assert log.append(commands(b"next")) == [5]

    def test_what_was_submitted_is_appended_before_the_log_closes(self, adapter: Adapter) -> None:
        outstanding = [adapter.log.submit(commands(b"%d" % number)) for number in range(500)]
        log = adapter.reopen()
        assert [future.result(0) for future in outstanding] == [[number] for number in range(500)]
        assert len(records(log)) == 500

    def test_the_identity_stays_and_is_no_other_log_s(self, adapter: Adapter, tmp_path: Path) -> None:
        identity = adapter.log.identity
        assert adapter.reopen().identity == identity
        (tmp_path / "other").mkdir()
        other = type(adapter)(tmp_path / "other")
        assert other.log.identity != identity
        other.close()

    def test_partitions_are_as_many_as_it_was_made_with(self, adapter: Adapter) -> None:
        for log in (adapter.log, adapter.reopen()):
            assert {stream: log.partitions(stream) for stream in Stream} == {
                Stream.REQUESTS: 1,
                Stream.COMMANDS: 3,
                Stream.PROGRESS: 1,
                Stream.DELIVERIES: 3,
                Stream.DEAD_LETTERS: 1,
            }

    def test_a_closed_log_does_nothing_more(self, adapter: Adapter) -> None:
        adapter.log.append(commands(b"a"))
        adapter.log.close()
        adapter.log.close()
        for call in (
            lambda: adapter.log.append(commands(b"b")),
            lambda: adapter.log.read(Stream.COMMANDS, 0, 0, records_max=1, bytes_max=ANY),
            lambda: adapter.log.trim(Stream.COMMANDS, 0, 1),
            lambda: adapter.log.wait(Stream.COMMANDS, 0, 0, 0),
        ):
            with pytest.raises(LogError, match="closed"):
                call()


class Model:
    """What a log is: for each partition where it begins, and every value there ever was."""

    def __init__(self) -> None:
        self.first = [0] * 3
        self.values: list[list[bytes]] = [[] for _ in range(3)]

    def append(self, entries: Sequence[Entry]) -> list[int]:
        positions = []
        for entry in entries:
            positions.append(len(self.values[entry.partition]))
            self.values[entry.partition].append(entry.value)
        return positions

    def trim(self, partition: int, below: int) -> None:
        self.first[partition] = max(self.first[partition], min(below, len(self.values[partition])))


some_entries = st.lists(
    st.builds(Entry, st.just(Stream.COMMANDS), st.integers(0, 2), st.binary(max_size=40)), max_size=12
)
some_steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), some_entries),
        st.tuples(st.just("trim"), st.tuples(st.integers(0, 2), st.integers(0, 30))),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=15,
)


def follow(kind: type[Adapter], steps: list[tuple[str, Any]]) -> None:
    """Take the steps on a new log and on the model, which must never differ."""
    model = Model()
    with TemporaryDirectory() as directory:
        adapter = kind(Path(directory))
        for step, argument in steps:
            if step == "append":
                assert adapter.log.append(argument) == model.append(argument)
            elif step == "trim":
                adapter.log.trim(Stream.COMMANDS, *argument)
                model.trim(*argument)
            else:
                adapter.reopen()
            for partition, first in enumerate(model.first):
                expected = model.values[partition]
                assert adapter.log.bounds(Stream.COMMANDS, partition) == Bounds(first, len(expected))
                assert values(adapter.log, start=first, partition=partition) == expected[first:]
        adapter.close()


@pytest.mark.parametrize("kind", [Embedded, Remote])
@settings(max_examples=30)
@given(steps=some_steps)
def test_any_history_is_the_model_s(kind: type[Adapter], steps: list[tuple[str, Any]]) -> None:
    follow(kind, steps)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=some_steps)
def test_any_history_on_kafka_is_the_model_s(kafka: str, steps: list[tuple[str, Any]]) -> None:
    """Fewer of them, because each begins with new topics."""
    Kafka.bootstrap = kafka
    follow(Kafka, steps)
