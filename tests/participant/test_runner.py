"""The attempts of a session, delivered to and answered by hand; and the one timer that they share."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from coordinator.model import limits, messages
from coordinator.model.journal import Entry, StepKind
from coordinator.participant import Context, Service, VirtualObject
from coordinator.participant.deadlines import Deadlines, now_us
from coordinator.participant.runner import Runner
from tests.participant.loop import in_a_loop
from tests.participant.script import ID

START = messages.Start(id=ID, attempt=2, service="Greeter", handler="greet")


class Greeting:
    """A handler that waits for the test, and what becomes of it."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.stopped: list[int] = []
        self.go_on, self.interrupted = asyncio.Event(), asyncio.Event()
        service = Service("Greeter")
        service.handler(self.greet)
        self.runner = Runner([service], "dp_1", inactivity_us=limits.HOUR_US)

    async def greet(self, ctx: Context) -> None:
        self.runs.append(ctx.attempt)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.append(ctx.attempt)
            self.interrupted.set()
            raise

    async def said(self) -> list[messages.Report]:
        """What is reported next."""
        await self.runner.something_to_report.wait()
        return self.runner.take()

    async def begun(self) -> messages.Report:
        """Let the attempt that was delivered begin; the report with which it asked."""
        (asked,) = await self.said()
        self.runner.answered([asked], [(200, None, None)])
        await asyncio.sleep(0)  # its task's turn
        return asked


def kinds(reports: list[messages.Report]) -> list[str]:
    return [type(report).__name__ for report in reports]


@in_a_loop
async def test_a_start_that_is_delivered_twice_runs_once() -> None:
    greeting = Greeting()
    greeting.runner.deliver(START)
    await greeting.begun()
    greeting.runner.deliver(START)
    greeting.runner.deliver(replace(START, attempt=1))
    greeting.go_on.set()
    assert kinds(await greeting.said()) == ["Completed"]
    greeting.runner.deliver(START)  # the end is not answered yet, so this is still the same
    await asyncio.sleep(0)
    assert (greeting.runs, greeting.stopped) == ([2], [])


@in_a_loop
async def test_a_later_attempt_takes_the_place_of_the_one_before() -> None:
    greeting = Greeting()
    greeting.runner.deliver(START)
    await greeting.begun()
    greeting.runner.deliver(replace(START, attempt=3))
    assert (await greeting.begun()).attempt == 3
    assert (greeting.runs, greeting.stopped) == ([2, 3], [2])
    await greeting.runner.close(1)


@in_a_loop
async def test_an_attempt_is_held_until_its_end_is_answered() -> None:
    greeting = Greeting()
    greeting.go_on.set()
    for _ in range(2):  # the second time delivered by somebody who knows of no end
        greeting.runner.deliver(START)
        await greeting.begun()
        reports = await greeting.said()
        assert kinds(reports) == ["Completed"]
        greeting.runner.answered(reports, [(200, None, None)])
    assert greeting.runs == [2, 2]


@in_a_loop
async def test_an_attempt_that_is_over_is_dropped_without_another_word() -> None:
    greeting = Greeting()
    greeting.runner.deliver(START)
    asked = await greeting.begun()
    greeting.runner.answered([asked], [(409, None, "it is over")])
    await greeting.interrupted.wait()
    assert greeting.runner.take() == []


@in_a_loop
async def test_no_line_of_a_handler_runs_before_its_partition_has_said_that_it_is_to_be_run() -> None:
    greeting = Greeting()
    greeting.runner.deliver(START)
    asked = await greeting.said()
    assert asked == [messages.Started(id=ID, attempt=2, deployment="dp_1")]
    await asyncio.sleep(0)
    greeting.runner.answered(asked, [(409, "killed", "it is over")])
    await asyncio.sleep(0)
    assert (greeting.runs, greeting.runner.take()) == ([], [])


@in_a_loop
async def test_one_that_is_dropped_before_it_has_asked_says_nothing() -> None:
    greeting = Greeting()
    greeting.runner.deliver(START)
    greeting.runner.deliver(messages.Drop(id=ID, attempt=2))
    assert (await greeting.said(), greeting.runs) == ([], [])


@in_a_loop
async def test_a_long_journal_comes_in_pieces_and_the_handler_waits_for_the_last() -> None:
    cart = VirtualObject("Cart")

    @cart.handler
    async def total(ctx: Context) -> Any:
        return [await ctx.call("Greeter/pick"), await ctx.call("Greeter/pick"), await ctx.get("a"), await ctx.get("b")]

    runner = Runner([cart], "dp_1", inactivity_us=limits.HOUR_US)
    start = messages.Start(id=ID, attempt=2, service="Cart", handler="total", key="c1", type=1)
    first, second = (
        Entry(step=step, kind=StepKind.CALL, name="Greeter/pick", outcome="success", value=b"%d" % step)
        for step in range(2)
    )
    runner.deliver(replace(start, entries=(replace(first, done=False, outcome=None),), values={"a": b"10"}, more=True))
    asked = runner.take()
    runner.answered(asked, [(200, None, None)])
    runner.deliver(messages.Notify(id=ID, attempt=2, entry=first))
    runner.deliver(messages.Notify(id=ID, attempt=2, entry=second))  # this one overtakes its piece
    runner.deliver(messages.Context(id=ID, attempt=2, entries=(replace(second, done=False, outcome=None),)))
    await asyncio.sleep(0)
    assert runner.take() == []
    runner.deliver(messages.Context(id=ID, attempt=2, values={"b": b"11"}, last=True))
    await runner.something_to_report.wait()
    *_, completed = runner.take()
    assert completed == messages.Completed(id=ID, attempt=2, outcome="success", output=b"[0,1,10,11]")


# -- deadlines -----------------------------------------------------------------------------------------------


class Poked:
    """As much of an attempt as deadlines know."""

    def __init__(self, deadline: int) -> None:
        self.deadline: int | None = deadline
        self.poked = asyncio.Event()

    def poke(self) -> None:
        self.deadline = None
        self.poked.set()


def deadlines_of(*attempts: Poked) -> Deadlines:
    deadlines = Deadlines()
    for attempt in attempts:
        assert attempt.deadline is not None
        deadlines.add(attempt.deadline, attempt)  # type: ignore[arg-type]
    return deadlines


@in_a_loop
async def test_the_nearest_deadline_comes_first_whenever_it_was_added() -> None:
    now = now_us()
    late, soon, sooner = Poked(now + limits.HOUR_US), Poked(now + 20_000), Poked(now + 10_000)
    deadlines = deadlines_of(late, soon, sooner)
    await sooner.poked.wait()
    assert not soon.poked.is_set()
    await soon.poked.wait()
    assert not late.poked.is_set()
    deadlines.close()


@in_a_loop
async def test_a_deadline_that_no_longer_stands_does_nothing() -> None:
    now = now_us()
    moved, after = Poked(now + 1_000), Poked(now + 10_000)
    deadlines = deadlines_of(moved, after)
    moved.deadline = now + limits.HOUR_US
    await after.poked.wait()
    assert not moved.poked.is_set()
    deadlines.close()
