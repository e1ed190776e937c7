"""A million invocations on four partitions, killed by one batch; beside it, the same by one record for each id.

Two workers, one process that is the coordinator and answers users, and a broker. All the while another process starts
invocations over HTTP at a steady rate, open loop; how long those take is compared with what they took when nothing
else went on. Each turn has topics and stores of its own.

- The batch counts from its submission until the coordinator says that it is over. *In force* is from the append time
  of the request until the last partition was heard to have applied it.
- One by one: a producer of aiokafka appends a kill for each id, until all of them were heard to be applied. Where the
  ids come from, which a client would have to ask for first, is not counted.
- How old progress is when it is seen: from the append time of each record of progress until the coordinator's
  state, as a process with a gateway reads it, shows it or a later one.
"""

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer

from bench import workloads
from bench.kafka.session import KafkaSession
from bench.kafka.system import PATIENCE_S, KafkaSystem, pids, system
from bench.session import Numbers, Turns, quantile
from bench.system import cpu_s
from coordinator.demo.processes import live_traffic
from coordinator.demo.traffic import Sent
from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.port import Record, Stream
from coordinator.model import limits, messages
from coordinator.runtime.requests.replica import RequestsReplica

PARTITIONS: Final = 4
WORKERS: Final = 2
SWEPT: Final = "Swept"
ONE_BY_ONE: Final = "OneByOne"


class Window(NamedTuple):
    """From when to when something went on, by the machine's clock."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.ended - self.began

    def latencies_ms(self, sent: Sequence[Sent]) -> list[float]:
        """Of what was to be sent meanwhile."""
        return [one.latency_ms for one in sent if self.began <= one.planned_at / 1e6 < self.ended]


class Batch(NamedTuple):
    """What was seen of one batch."""

    window: Window
    in_force_ms: float
    progress_ms: list[float]
    """Of each record of progress."""


def measure(session: KafkaSession) -> Numbers:
    """One batch and one series of single kills in each turn; latencies of all turns together."""
    turns = Turns()
    live: dict[str, list[float]] = {"idle": [], "batch": [], "one_by_one": []}
    progress_ms: list[float] = []
    for turn in range(session.scale.turns):
        session.say(f"batch: turn {turn + 1} of {session.scale.turns}")
        with system(session, PARTITIONS) as of:
            workers = of.start_workers(WORKERS)
            single = _load(of, session, turn)
            of.start_front()
            with session.folder() as folder, live_traffic(folder, of.url, turn, session.scale.live_per_s) as traffic:
                idle = _idle(session)
                used_s = cpu_s(*pids(workers))
                batch = _batch(of, session.scale.matching)
                used_s = cpu_s(*pids(workers)) - used_s
                one_by_one = _one_by_one(of, single)
                traffic.stop()
                sent = traffic.sent()
        refused = [one.error for one in sent if one.error]
        assert not refused, f"every start is taken: {refused[0]}"
        for name, window in (("idle", idle), ("batch", batch.window), ("one_by_one", one_by_one)):
            live[name] += window.latencies_ms(sent)
        progress_ms += batch.progress_ms
        batch_per_s = session.scale.matching / batch.window.seconds
        single_per_s = len(single) / one_by_one.seconds
        turns.took(
            batch_per_s=batch_per_s,
            batch_s=batch.window.seconds,
            one_by_one_per_s=single_per_s,
            batch_ratio=batch_per_s / single_per_s,
            batch_in_force_ms=batch.in_force_ms,
            batch_cpu_s=used_s,
        )
    return turns.numbers() | _progress(progress_ms) | _live(live)


def _progress(found: Sequence[float]) -> Numbers:
    return {
        "progress_p50_ms": quantile(found, 0.5),
        "progress_p99_ms": quantile(found, 0.99),
        "progress_samples": len(found),
    }


def _live(found: Mapping[str, Sequence[float]]) -> Numbers:
    numbers: Numbers = {}
    for name, latencies in found.items():
        numbers |= {f"live_{name}_{part}_ms": quantile(latencies, at) for part, at in (("p50", 0.5), ("p99", 0.99))}
        numbers[f"live_{name}_samples"] = len(latencies)
    numbers["live_p50_ratio"] = numbers["live_batch_p50_ms"] / numbers["live_idle_p50_ms"]
    return numbers


def _load(of: KafkaSystem, session: KafkaSession, turn: int) -> list[tuple[int, str]]:
    """Invocations to be swept, and others; the partition and the id of those others, to be killed one by one."""
    rng = workloads.source("killed on Kafka", turn)
    values: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
    for number, id in _ids(rng, session.scale.matching):
        values[number].append(workloads.schedule(id, SWEPT))
    single = _ids(rng, session.scale.one_by_one)
    for number, id in single:
        values[number].append(workloads.schedule(id, ONE_BY_ONE))
    of.heard.await_applied(of.append(values))
    return single


def _ids(rng: random.Random, count: int) -> list[tuple[int, str]]:
    """So many ids, with their partitions in turns."""
    return [(number % PARTITIONS, workloads.new_id(rng, number % PARTITIONS, PARTITIONS)) for number in range(count)]


def _idle(session: KafkaSession) -> Window:
    began = time.time()
    time.sleep(session.scale.live_idle_s)
    return Window(began, time.time())


# -- one batch -----------------------------------------------------------------------------------------------


def _batch(of: KafkaSystem, count: int) -> Batch:
    """Kill all that are to be swept."""
    with closing(RequestsReplica(of.settings.changelog, of.settings.client(), log=of.log.identity)) as replica:
        seen = Seen(replica)
        start = {stream: of.log.bounds(stream, 0).end for stream in (Stream.REQUESTS, Stream.PROGRESS)}
        began = time.time()
        id = of.submit("kill", {"service": SWEPT, "status": ["scheduled"]})
        over = of.until(id, lambda batch: batch["finished_at"] is not None)
        window = Window(began, time.time())
        assert over["matched"] == over["ended"] == count, f"all are ended: {over}"
        of.until(id, lambda batch: batch["settled"])
    told = [
        (message, record.appended_at / 1e6)
        for record in _records(of, Stream.PROGRESS, start[Stream.PROGRESS])
        if isinstance(message := messages.decode_progress(record.value), messages.Progress) and message.request == id
    ]
    progress_ms = [(seen.at(id, one.partition, one.number) - at) * 1e3 for one, at in told]
    requested = next(_records(of, Stream.REQUESTS, start[Stream.REQUESTS]))
    return Batch(window, _in_force_ms(of, over, requested), progress_ms)


class Seen:
    """When a replica of the coordinator's state has shown what of a request."""

    def __init__(self, replica: RequestsReplica) -> None:
        self._replica = replica
        self._shown: dict[tuple[str, int], list[tuple[int, float]]] = {}
        """By request and partition: number of the newest progress, and when it was shown first."""
        self._more = threading.Condition()
        replica.subscribe(self._look)

    def _look(self, id: str) -> None:
        now = time.time()
        request = self._replica.get(id)
        assert request is not None, "what has changed is there"
        with self._more:
            for number, partition in enumerate(request.partitions):
                shown = self._shown.setdefault((id, number), [])
                if partition.newest is not None and (not shown or shown[-1][0] < partition.newest.number):
                    shown.append((partition.newest.number, now))
            self._more.notify_all()

    def at(self, id: str, partition: int, number: int) -> float:
        """When progress of this number, or a later one, was shown; waits for it."""
        shown = self._shown.setdefault((id, partition), [])
        with self._more:
            there = self._more.wait_for(lambda: bool(shown) and shown[-1][0] >= number, PATIENCE_S)
        assert there, f"progress {number} of partition {partition} is shown in time"
        return next(at for newest, at in shown if newest >= number)


def _in_force_ms(of: KafkaSystem, batch: Mapping[str, Any], requested: Record) -> float:
    """From the append of the request until the last partition was heard to have applied it."""
    applied = [of.heard.applied_at(one["partition"], one["position"]) for one in batch["partitions"]]
    return (max(applied) - requested.appended_at / 1e6) * 1e3


def _records(of: KafkaSystem, stream: Stream, start: int) -> Iterator[Record]:
    while records := of.log.read(stream, 0, start, records_max=limits.RUN_RECORDS_MAX, bytes_max=limits.RUN_BYTES_MAX):
        yield from records
        start = records[-1].position + 1


# -- one by one ----------------------------------------------------------------------------------------------


def _one_by_one(of: KafkaSystem, doomed: Sequence[tuple[int, str]]) -> Window:
    """Kill these by a record each; when that was."""
    values = [(number, messages.encode(messages.Act(action="kill", id=id))) for number, id in doomed]
    began = time.time()
    last = asyncio.run(_append(of.settings, values))
    ended = of.heard.await_applied(last)
    left = of.do("count", {"service": ONE_BY_ONE, "status": ["scheduled"]})
    assert left["matched"] == 0, f"all are ended: {left}"
    return Window(began, ended)


async def _append(settings: KafkaSettings, values: Sequence[tuple[int, bytes]]) -> dict[int, int]:
    """The position of the last in each partition."""
    topic = settings.topic(Stream.COMMANDS)
    producer = AIOKafkaProducer(**settings.producer(), enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        sent = [await producer.send(topic, value, partition=number) for number, value in values]
        return {(done := await future).partition: done.offset for future in sent}
    finally:
        await producer.stop()
