"""The same log gives the same state and the same outbox, however it is cut into runs and wherever it restarts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Outgoing
from coordinator.stores.memory import MemoryStore
from coordinator.stores.port import Store
from tests.simulation import settings
from tests.simulation.cluster import LOG, Bounds, Partition, Record, bounded
from tests.simulation.simulator import Simulator

LOGS = 2_000 if settings.LONG else 150
Kept = tuple[list[tuple[str, tuple[Any, ...]]], list[Outgoing]]


@contextmanager
def simulated(number: int, kind: str) -> Iterator[Simulator[Partition]]:
    """A drained run with its limits still in force."""
    simulator = Simulator(f"{settings.SEED}:{kind}:{number}", Partition)
    with bounded(simulator.bounds):
        simulator.run()
        simulator.settle()
        simulator.drain()
        yield simulator


def replay(partition: Partition, store: Store, cuts: list[int], *, restart: bool) -> Kept:
    """The log again, in runs that end at these positions; a new machine for each run where it restarts."""
    machine = Machine(store, partition=partition.number, partitions=partition.partitions, log=LOG)
    outgoing: list[Outgoing] = []
    start = 0
    for cut in [*cuts, len(partition.log)]:
        if start == cut:
            continue
        run: list[Record] = partition.log[start:cut]
        if restart:
            machine = Machine(store, partition=partition.number, partitions=partition.partitions, log=LOG)
        store.begin()
        for record in run:
            machine.apply(record)
        machine.finish_run(run[-1])
        store.commit()
        outgoing += machine.take_outgoing()
        start = cut
    return list(store.dump()), outgoing


def kept(partition: Partition) -> Kept:
    return list(partition.store.dump()), partition.sent


def test_the_same_seed_gives_the_same_run() -> None:
    for number in range(10):
        with simulated(number, "same") as first, simulated(number, "same") as second:
            assert [p.log for p in first.partitions] == [p.log for p in second.partitions]
            assert [kept(p) for p in first.partitions] == [kept(p) for p in second.partitions]


@pytest.mark.parametrize("restart", [False, True], ids=["in one process", "restarted after each run"])
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_runs_of_another_size_give_the_same_state_and_outbox(size: int, restart: bool) -> None:
    for number in range(LOGS):
        with simulated(number, "cut") as simulator:
            for partition in simulator.partitions:
                cuts = list(range(size, len(partition.log), size))
                assert replay(partition, MemoryStore(), cuts, restart=restart) == kept(partition), number


def test_runs_of_random_sizes_with_restarts_give_the_same_state_and_outbox() -> None:
    for number in range(LOGS):
        with simulated(number, "random cut") as simulator:
            rng = random.Random(number)
            for partition in simulator.partitions:
                cuts = sorted(rng.randrange(len(partition.log)) for _ in range(rng.randrange(8)))
                assert replay(partition, MemoryStore(), cuts, restart=True) == kept(partition), number


def test_a_run_that_was_rolled_back_is_repeated_to_the_same_end() -> None:
    for number in range(LOGS):
        with simulated(number, "rolled back") as simulator:
            for partition in simulator.partitions:
                assert replay_with_failures(partition, random.Random(number)) == kept(partition), number


def replay_with_failures(partition: Partition, rng: random.Random) -> Kept:
    store, outgoing, start = MemoryStore(), list[Outgoing](), 0
    while start < len(partition.log):
        machine = Machine(store, partition=partition.number, partitions=partition.partitions, log=LOG)
        run = partition.log[start : start + rng.randrange(1, 20)]
        store.begin()
        for record in run:
            machine.apply(record)
        machine.finish_run(run[-1])
        if rng.random() < 0.3:
            store.rollback()
            continue
        store.commit()
        outgoing += machine.take_outgoing()
        start += len(run)
    return list(store.dump()), outgoing


def test_low_limits_of_a_run_are_lifted_after_it() -> None:
    with bounded(Bounds(rows_per_record=4, deliveries=1, pending=3)):
        pass
    assert Bounds() == Bounds(16, 500, 64)
