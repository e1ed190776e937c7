"""Participant processes without a network, a thread or a clock: the real runner, its handlers stepped by the test."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any

from coordinator.model import framing, messages
from coordinator.participant.attempt import Attempt
from coordinator.participant.runner import Runner, _Held, body_of
from coordinator.participant.services import AnyService
from coordinator.participant.transport import Answer

INACTIVITY_US = 200_000


class Place:
    """Where a handler waits: for its context, or for something of its own."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self._free = False

    def __await__(self) -> Generator[Any, Any, None]:
        while not self._free:
            yield self

    def done(self) -> bool:
        return self._free

    def set_result(self, result: None, /) -> None:
        if not self._free:
            self._free = True
            if self.task is not None:
                self.task.make_ready()


class Task:
    """A handler's coroutine; what the runner asks of an asyncio task, and `step` for the test."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], ready: list[Task]) -> None:
        self._coroutine = coroutine
        self._ready = ready
        self._over = self._cancelled = self._queued = False
        self.make_ready()

    def make_ready(self) -> None:
        """It can go on, once its turn comes."""
        if not self._queued and not self._over:
            self._queued = True
            self._ready.append(self)

    def done(self) -> bool:
        return self._over

    def cancel(self) -> None:
        self._cancelled = True
        self.make_ready()

    def step(self) -> None:
        """Let the handler run until it waits or ends."""
        self._queued = False
        try:
            if self._cancelled:
                self._cancelled = False
                place = self._coroutine.throw(asyncio.CancelledError())
            else:
                place = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._over = True
            return
        place.task = self
        if place.done():
            self.make_ready()

    def destroy(self) -> None:
        """Its process is gone."""
        self._over = True
        self._coroutine.close()


class StepwiseRunner(Runner):
    """The runner, with the test in the place of the event loop and of the clock."""

    def __init__(self, services: Iterable[AnyService], deployment: str, now: Callable[[], int]) -> None:
        super().__init__(services, deployment, INACTIVITY_US)
        self.ready: list[Task] = []
        self._now = now
        self._dues: list[tuple[int, int, Attempt]] = []
        self._numbers = itertools.count()

    def _run(self, held: _Held) -> None:
        held.task = Task(held.attempt.run(), self.ready)  # type: ignore[assignment]

    def now_us(self) -> int:
        return self._now()

    def parking(self) -> Place:  # type: ignore[override]
        return Place()

    def call_at(self, attempt: Attempt, at_us: int) -> None:
        heapq.heappush(self._dues, (at_us, next(self._numbers), attempt))

    def next_due(self) -> int | None:
        """When the next attempt is to be poked."""
        while self._dues and self._dues[0][2].deadline != self._dues[0][0]:
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def poke_due(self) -> None:
        """Poke those whose time has come."""
        while (due := self.next_due()) is not None and due <= self._now():
            heapq.heappop(self._dues)[2].poke()

    def destroy(self) -> None:
        """SIGKILL: not even a `finally` runs that could still say anything."""
        for held in self._held.values():
            held.attempt.over = True
            if held.task is not None:
                held.task.destroy()  # type: ignore[attr-defined]
        for task in self.ready:
            task.destroy()


class Process:
    """One participant process and its session, one request with reports under way at a time."""

    def __init__(self, make: Callable[[], StepwiseRunner], deployment: str, capacity: int) -> None:
        self.deployment = deployment
        self.capacity = capacity
        self.session: str | None = None
        self.frozen = False
        self.runner = make()
        self._make = make
        self._splitter = framing.Splitter()
        self._taken: list[messages.Report] = []
        self._sent = 0
        self.request: bytes | None = None
        """On its way to the server."""
        self.response: list[Answer] | None = None
        """On its way back."""

    def opened(self, session: str) -> None:
        """It has a session."""
        self.session = session
        self._splitter = framing.Splitter()

    def over(self) -> None:
        """Its session is over: it takes everything down, and opens another."""
        for task in self._take_down():
            task.step()
        self._begin_again()

    def destroy(self) -> None:
        """It is killed; a new process takes its place."""
        self.runner.destroy()
        self._begin_again()

    def _take_down(self) -> list[Task]:
        runner = self.runner
        for held in list(runner._held.values()):
            runner._drop(held)
        return runner.ready

    def _begin_again(self) -> None:
        self.session, self.runner = None, self._make()
        self.request = self.response = None
        self._taken = []

    def new_stream(self) -> None:
        """Its stream broke; half a frame may be left of it."""
        self._splitter = framing.Splitter()

    def receive(self, chunk: bytes) -> None:
        """Something of its stream has arrived."""
        for value in self._splitter.feed(chunk):
            self.runner.deliver(messages.decode_delivery(value))

    @property
    def wants_to_report(self) -> bool:
        """Whether it would send a request now."""
        idle = self.request is None and self.response is None
        return idle and (bool(self._taken) or self.runner.something_to_report.is_set())

    def send(self) -> None:
        """Send what there is, or what did not go the last time."""
        if not self._taken:
            self._taken = self.runner.take()
        if self._taken:
            self._sent, self.request = body_of(self._taken)

    def lose_request(self) -> None:
        """The request, or the answer to it, is lost: it will be repeated."""
        self.request = self.response = None

    def answered(self) -> None:
        """The answer has arrived."""
        assert self.response is not None
        sent, self._taken = self._taken[: self._sent], self._taken[self._sent :]
        answers, self.response = self.response, None
        self.runner.answered(sent, answers)
