"""Both machines, and nothing else: the coordinator's and as many of the partition's as there are partitions.

What one appends the other reads, in memory, under a schedule drawn from a seed; commands of the coordinator
may be lost. Participants start whatever they are given and surface a cancellation at once.
"""

from __future__ import annotations

import random
from collections import deque

from coordinator.logs.port import Record
from coordinator.model import ids
from coordinator.model.messages import (
    Command,
    Completed,
    Delivery,
    Guard,
    Invoke,
    Lapse,
    Progress,
    RequestControl,
    Signal,
    Start,
    Started,
    Submit,
    Tick,
    decode_command,
    decode_delivery,
    decode_progress,
    encode,
)
from coordinator.partition import ticks
from coordinator.partition.machine import Machine
from coordinator.partition.state import DELIVERIES, PROGRESS
from coordinator.requests import machine
from coordinator.requests.machine import Event
from coordinator.stores.memory import MemoryStore
from tests.requests.world import SECOND, START, Checked, submit

FAR_US = 10**14
"""Starts that are scheduled behind this never come."""
STEPS_MAX = 30_000


class Shard:
    """One partition machine, its log and the part of it that is not applied yet."""

    def __init__(self, number: int, partitions: int) -> None:
        self.store = MemoryStore()
        self.machine = Machine(self.store, partition=number, partitions=partitions)
        self.log: deque[Command] = deque()
        self.tick = 0

    def apply(self, command: Command, at: int) -> list[tuple[int, bytes]]:
        """What that wants sent: destination and message."""
        record = Record(self.machine.state.position + 1, at, encode(command))
        self.store.begin()
        self.machine.apply(record)
        self.machine.finish_run(record)
        self.store.commit()
        return [(one.destination, one.value) for one in self.machine.take_outgoing()]


class Meeting:
    """A coordinator among partitions with some invocations on them."""

    def __init__(self, seed: int, *, partitions: int = 3, invocations: int = 60) -> None:
        self.rng = random.Random(seed)
        self.now = START
        self.shards = [Shard(number, partitions) for number in range(partitions)]
        self.requests: deque[tuple[Event, int]] = deque()
        self.progress: deque[tuple[Progress, int]] = deque()
        self.cores: dict[str, Checked] = {}
        self.lapsing: set[str] = set()
        self.lose = 0.0
        for _ in range(invocations):
            id = ids.invocation_id(self.rng.getrandbits(64), self.rng.getrandbits(128))
            due_at = self.rng.choice([None, START + 10 * FAR_US])
            self._apply(
                ids.partition_of(id, partitions), Invoke(id=id, service="Greeter", handler="greet", due_at=due_at)
            )

    def append(self, event: Event) -> None:
        self.requests.append((event, self.now))

    def once(self) -> bool:
        """One random thing that can happen; time passes a little."""
        self.now += self.rng.randint(0, SECOND // 5)
        moves = [self._read_requests, self._read_progress, self._lapse]
        for number in range(len(self.shards)):
            moves += [lambda n=number: self._deliver(n), lambda n=number: self._tick(n)]
        self.rng.shuffle(moves)
        return any(move() for move in moves)

    def quiesce(self) -> None:
        """Go on until nothing is left to do, letting time pass where something waits for it."""
        for _ in range(STEPS_MAX):
            if self.once():
                continue
            dues = [machine.due_at(core.known) for core in self.cores.values() if core.request is not None]
            dues += [ticks.next_due(shard.machine, self.now) for shard in self.shards]
            waits = [due for due in dues if due is not None and due < START + FAR_US]
            if not waits:
                return
            self.now = max(self.now, min(waits))
        raise AssertionError(f"no end after {STEPS_MAX} steps")

    def _read_requests(self) -> bool:
        if not self.requests:
            return False
        event, at = self.requests.popleft()
        if isinstance(event, Lapse):
            self.lapsing.discard(event.request)
        self._step(event, at)
        return True

    def _read_progress(self) -> bool:
        if self.progress:
            self._step(*self.progress.popleft())
            return True
        return False

    def _step(self, event: Event, at: int) -> None:
        core = self.cores.setdefault(event.request, Checked(len(self.shards)))
        core.step(event, at)
        for number, command in core.sends:
            if self.rng.random() >= self.lose:
                self.shards[number].log.append(command)
        for decide in core.asks:
            self.append(decide)

    def _lapse(self) -> bool:
        for id, core in self.cores.items():
            due = None if core.request is None else machine.due_at(core.request)
            if due is not None and due <= self.now and id not in self.lapsing:
                self.lapsing.add(id)
                self.append(Lapse(request=id))
                return True
        return False

    def _deliver(self, number: int) -> bool:
        log = self.shards[number].log
        if log:
            self._apply(number, log.popleft())
            return True
        return False

    def _tick(self, number: int) -> bool:
        shard = self.shards[number]
        if not ticks.wanted(shard.machine, self.now):
            return False
        shard.tick += 1
        self._apply(number, Tick(tick=shard.tick, sweep=5, single=3, timers=3, work=3))
        return True

    def _apply(self, number: int, command: Command) -> None:
        for destination, value in self.shards[number].apply(command, self.now):
            if destination == PROGRESS:
                self.progress.append((decode_progress(value), self.now))
            elif destination == DELIVERIES:
                self._participate(number, decode_delivery(value))
            else:
                assert destination >= 0, "nothing here is malformed"
                self.shards[destination].log.append(decode_command(value))

    def _participate(self, number: int, delivery: Delivery) -> None:
        if isinstance(delivery, Start):
            self.shards[number].log.append(Started(id=delivery.id, attempt=delivery.attempt))
        elif isinstance(delivery, Signal):
            ended = Completed(id=delivery.id, attempt=delivery.attempt, outcome="cancelled")
            self.shards[number].log.append(ended)


def meet(seed: int, *, lose: float) -> Meeting:
    """Three requests at a time, and operators that meddle; in the end none is left paused."""
    meeting = Meeting(seed)
    meeting.lose = lose
    rng = meeting.rng
    names = ["r0", "r1", "r2"]
    for name in names:
        meeting.append(random_submit(rng, name))
        for _ in range(rng.randint(0, 30)):
            meeting.once()
            if rng.random() < 0.1:
                change = rng.choice([{"paused": True}, {"paused": False}, {"rate": 3}, {"aborted": True}])
                meeting.append(RequestControl(request=rng.choice(names), **change))
    for name in names:
        meeting.append(RequestControl(request=name, paused=False))
    meeting.quiesce()
    return meeting


def random_submit(rng: random.Random, name: str) -> Submit:
    return submit(
        name,
        action=rng.choice(["cancel", "kill", "count", "pause"]),
        guard=rng.choice([None, Guard(max=rng.randint(0, 100))]),
        rate=rng.choice([None, 5]),
    )
