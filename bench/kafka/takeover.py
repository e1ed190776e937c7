"""How long a worker takes until it answers for a large partition: from its store, a snapshot, or the log alone.

Each is a new process, from its start until it says that it is ready: Python, the group, and the take-over. The one that
finds its own store is the baseline, as it has nothing to make.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import workloads
from bench.kafka.session import KafkaSession
from bench.kafka.system import KafkaSystem, system
from bench.session import Numbers, Turns
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots import making
from coordinator.stores.archive import SnapshotArchive
from tests.system.kafka import Process


def measure(session: KafkaSession) -> Numbers:
    """One large partition, taken over in turns."""
    turns = Turns()
    count = session.scale.matching
    session.say(f"takeover: {count:,} invocations into one partition")
    with system(session, 1) as of, session.folder() as place:
        first = of.process_with("partitions")
        with _running(of, first):
            of.heard.await_applied(of.append({0: workloads.scheduled(count)}))
        data = DataDirectory(first.data)
        making.create(data.store(0), SnapshotArchive(str(place), make=True), data.snapshot(0))
        for turn in range(session.scale.turns):
            session.say(f"takeover: turn {turn + 1} of {session.scale.turns}")
            from_store_s = _ready_s(of, first)
            from_snapshot_s = _ready_s(of, _new(of, COORDINATOR_SNAPSHOTS=str(place)))
            from_log_s = _ready_s(of, _new(of))
            turns.took(
                takeover_store_s=from_store_s,
                takeover_snapshot_s=from_snapshot_s,
                takeover_log_s=from_log_s,
                takeover_ratio=from_log_s / from_snapshot_s,
            )
    return turns.numbers()


def _new(of: KafkaSystem, **environment: str) -> Process:
    """A worker without a store."""
    worker = of.process_with("partitions")
    worker.env |= environment
    return worker


def _ready_s(of: KafkaSystem, worker: Process) -> float:
    """From the start of its process until it answers for the partition."""
    began = time.perf_counter()
    with _running(of, worker):
        return time.perf_counter() - began


@contextmanager
def _running(of: KafkaSystem, worker: Process) -> Iterator[None]:
    """A worker that is ready, stopped in order afterwards."""
    worker.start()
    of.await_that(worker.is_ready, "be ready")
    yield
    worker.stop()
