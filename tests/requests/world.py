"""The coordinator machine among fake partitions, one random schedule per seed.

Two streams go into the machine, `requests` and `progress`, each in its own order and otherwise in any relation;
commands go out, are lost, delayed and repeated. Time moves only here. Every step is checked: the law, that
no terminal state is left, that no count of matches falls.
"""

from __future__ import annotations

import os
import random
from collections import deque
from typing import Any

from coordinator.model.filters import Filter
from coordinator.model.messages import (
    Command,
    Decide,
    Guard,
    Lapse,
    Progress,
    RequestControl,
    RequestState,
    Submit,
)
from coordinator.requests import fold, lifecycle, machine
from coordinator.requests.effects import Ask, Send
from coordinator.requests.machine import Event
from coordinator.requests.state import Request
from tests.requests.fake_partition import FakePartition

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
STEPS_MAX = 20_000
TIMES = 10 if os.environ.get("COORDINATOR_TEST_PROFILE") == "long" else 1
"""How much more the long profile does."""


def submit(request: str = "r1", **fields: Any) -> Submit:
    given: dict[str, Any] = {"action": "cancel", "filter": Filter(service="Greeter"), **fields}
    return Submit(request=request, **given)


class Checked:
    """One request, folded step by step, with what must hold between any two steps."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.request: Request | None = None
        self.told: list[RequestState] = []
        self.sends: list[Send] = []
        self.asks: list[Decide] = []

    def step(self, event: Event, at: int) -> None:
        before = self.request
        after, effects = machine.step(before, event, at, self.partitions)
        self.request = after
        self.sends, self.asks = [], []
        for effect in effects:
            if isinstance(effect, Send):
                self.sends.append(effect)
            elif isinstance(effect, Ask):
                self.asks.append(effect.decide)
            else:
                self.told.append(effect.state)
        if after is not None:
            assert fold.total(after).adds_up()
        if before is not None:
            assert after is not None
            assert fold.total(after).matched >= fold.total(before).matched
            if before.submission is not None:
                was = lifecycle.state(before)
                assert was not in lifecycle.TERMINAL or lifecycle.state(after) is was

    @property
    def known(self) -> Request:
        assert self.request is not None
        return self.request

    @property
    def state(self) -> str:
        return lifecycle.state(self.known).value


class World:
    """A request among `partitions` fake partitions, everything from one seed."""

    def __init__(self, seed: int, *, partitions: int | None = None, asked: Submit | None = None) -> None:
        self.rng = random.Random(seed)
        count = partitions or self.rng.randint(1, 5)
        self.now = START
        self.core = Checked(count)
        self.partitions = [FakePartition(number, count, self.rng) for number in range(count)]
        self.inbox: list[deque[Command]] = [deque() for _ in range(count)]
        self.gone: set[int] = set()
        """Partitions without an owner: their log fills, nothing is applied."""
        self.mail_held = False
        """Whether messages between partitions are under way for now."""
        self.lose = 0.0
        """Share of the commands that never reach the log."""
        self.requests: list[tuple[Event, int]] = []
        self.progress: list[tuple[Progress, int]] = []
        self.read = [0, 0]
        self.fetched = [0] * count
        self.lapsing = False
        self.append(asked or self.random_submit())

    def random_submit(self) -> Submit:
        guard = self.rng.choice([None, None, Guard(max=self.rng.randint(0, 60)), Guard(max=1000), Guard(expect=0)])
        return submit(
            guard=guard,
            rate=self.rng.choice([None, None, 7]),
            action=self.rng.choice(["cancel", "kill", "count"]),
            dry_run=self.rng.random() < 0.1,
        )

    def append(self, event: Event) -> None:
        """A record on `requests`."""
        self.requests.append((event, self.now))

    # -- what can happen next --------------------------------------------------------------------------------

    def read_requests(self) -> bool:
        return self._read(0, self.requests)

    def read_progress(self) -> bool:
        return self._read(1, self.progress)

    def _read(self, stream: int, records: list[tuple[Event, int]] | list[tuple[Progress, int]]) -> bool:
        if self.read[stream] >= len(records):
            return False
        event, at = records[self.read[stream]]
        self.read[stream] += 1
        if isinstance(event, Lapse):
            self.lapsing = False
        self.core.step(event, at)
        for number, command in self.core.sends:
            if self.rng.random() >= self.lose:
                self.inbox[number].append(command)
        for decide in self.core.asks:
            self.append(decide)
        return True

    def deliver(self, number: int) -> bool:
        """Partition `number` applies the next record of its log."""
        if number in self.gone or not self.inbox[number]:
            return False
        self.partitions[number].apply(self.inbox[number].popleft(), self.now)
        self._fetch(number)
        return True

    def work(self, number: int) -> bool:
        if number in self.gone:
            return False
        done = self.partitions[number].work(self.now)
        self._fetch(number)
        return done

    def post(self, number: int) -> bool:
        """One message from partition `number` to another arrives."""
        mail = self.partitions[number].mail
        if not mail or self.mail_held:
            return False
        source, to, request = mail[0]
        if to in self.gone:
            return False
        mail.pop(0)
        self.partitions[to].receive(source, request, self.now)
        self._fetch(to)
        return True

    def lapse(self) -> bool:
        """What the driver does when a timer is over."""
        due = None if self.core.request is None else machine.due_at(self.core.request)
        if due is None or self.lapsing or self.now < due:
            return False
        self.lapsing = True
        self.append(Lapse(request=self.core.known.id))
        return True

    def control(self, **fields: Any) -> None:
        self.append(RequestControl(request=self.core.known.id, **fields))

    def _fetch(self, number: int) -> None:
        told = self.partitions[number].told
        self.progress += [(one, self.now) for one in told[self.fetched[number] :]]
        self.fetched[number] = len(told)

    # -- schedules -------------------------------------------------------------------------------------------

    def once(self) -> bool:
        """One random thing that can happen; time passes a little."""
        self.now += self.rng.randint(0, SECOND // 10)
        moves = [self.read_requests, self.read_progress, self.lapse]
        for number in range(len(self.partitions)):
            moves += [
                lambda n=number: self.deliver(n),
                lambda n=number: self.work(n),
                lambda n=number: self.post(n),
            ]
        self.rng.shuffle(moves)
        return any(move() for move in moves)

    def quiesce(self) -> None:
        """Go on until nothing is left to do, letting time pass where something waits for it."""
        for _ in range(STEPS_MAX):
            if self.once():
                continue
            due = None if self.core.request is None else machine.due_at(self.core.request)
            if due is None:
                return
            self.now = max(self.now, due)
        raise AssertionError(f"no end after {STEPS_MAX} steps: {self.core.request}")

    def until(self, state: str) -> None:
        for _ in range(STEPS_MAX):
            if self.core.request is not None and self.core.state == state:
                return
            assert self.once(), f"nothing left to do in state {self.core.state}, waiting for {state}"
        raise AssertionError(f"never {state}")


def random_history(seed: int) -> World:
    """A whole life of one request under a random schedule, with faults and operators that meddle."""
    world = World(seed)
    rng = world.rng
    world.lose = rng.choice([0.0, 0.0, 0.2])
    for partition in world.partitions:
        partition.full = rng.choice([0, 0, 0, 2])
        partition.broken = rng.random() < 0.08
        partition.fails = rng.random() < 0.3
    controls: list[dict[str, Any]] = [
        {"paused": True}, {"paused": False}, {"rate": 3}, {"rate": 0}, {"aborted": True},
    ]  # fmt: skip
    world.read_requests()
    for _ in range(rng.randint(0, 60)):
        world.once()
        if rng.random() < 0.05:
            world.control(**rng.choice(controls))
        if rng.random() < 0.05:
            world.gone ^= {rng.randrange(len(world.partitions))}
            world.now += rng.choice([0, 0, 20, 700]) * SECOND
    world.gone.clear()
    world.control(paused=False)
    world.quiesce()
    return world
