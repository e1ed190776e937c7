"""Simulated logs give the same state and outbox on SQLite as in memory, step by step."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from coordinator.partition.machine import Machine
from coordinator.stores.memory import MemoryStore
from coordinator.stores.sqlite import SqliteStore
from tests.simulation import settings
from tests.simulation.cluster import LOG, Partition, bounded
from tests.simulation.simulator import Simulator

LOGS = 3_000 if settings.LONG else 150


def test_sqlite_keeps_what_memory_keeps_after_every_run(tmp_path: Path) -> None:
    for number in range(LOGS):
        simulator = Simulator(f"{settings.SEED}:stores:{number}", Partition)
        with bounded(simulator.bounds):
            simulator.run()
            simulator.settle()
            simulator.drain()
            for partition in simulator.partitions:
                path = tmp_path / f"{number}-{partition.number}.db"
                compare(partition, path, random.Random(number))
                path.unlink()


def compare(partition: Partition, path: Path, rng: random.Random) -> None:
    """Apply the log to both, in runs of random sizes, and now and then open the file anew."""
    reference, tested = MemoryStore(), SqliteStore(path)
    where: dict[str, Any] = {"partition": partition.number, "partitions": partition.partitions, "log": LOG}
    machines = Machine(reference, **where), Machine(tested, **where)
    start = 0
    while start < len(partition.log):
        run = partition.log[start : start + rng.choice((1, 1, 3, 10, 50))]
        start += len(run)
        for machine in machines:
            machine.store.begin()
            for record in run:
                machine.apply(record)
            machine.finish_run(run[-1])
            machine.store.commit()
        assert machines[0].take_outgoing() == machines[1].take_outgoing()
        if rng.random() < 0.2:
            assert list(tested.dump()) == list(reference.dump()), f"after position {run[-1].position}"
        if rng.random() < 0.05:
            tested.close()
            tested = SqliteStore(path)
            machines = machines[0], Machine(tested, **where)
    assert list(tested.dump()) == list(reference.dump())
    assert list(reference.dump()) == list(partition.store.dump())
    tested.close()
