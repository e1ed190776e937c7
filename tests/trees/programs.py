"""Handlers that are drawn: a program is their input, and what they call has programs of its own.

No program can deadlock: what waits for a key waits for an attached call, and those go from lower numbers of keys to
higher ones only. So whatever is left waiting at the end, the system has forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from coordinator.participant import (
    CallFailed,
    CallFuture,
    Context,
    Future,
    RetryPolicy,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
)
from coordinator.participant.services import AnyService
from tests.trees.processes import Place

Program = list[list[Any]]
KEYS = 6
RETRY = RetryPolicy(initial="100ms", maximum="1s", attempts=4)


class Ledger:
    """What handlers have done outside, and been told; and what of it cannot be.

    A handler that raised would only be retried, so what is wrong is noted here, for the test to look at.
    """

    def __init__(self, rng: random.Random) -> None:
        self.wrong: list[str] = []
        self.parked: list[Place] = []
        """Handlers in the middle of a run."""
        self.outputs: dict[str, Any] = {}
        """Of the invocations that have ended well."""
        self.performed = 0
        self.may_be_told: Callable[[str, str], bool] = lambda called, outcome: True
        """Whether a call of that id can have ended otherwise than well, with that outcome."""
        self._runs: dict[tuple[str, str], tuple[int, int]] = {}
        """Invocation and run → the attempt in which its result was found durable, and the result."""
        self._told: dict[tuple[str, int], Any] = {}
        self._rng = rng

    async def perform(self, ctx: Context, name: str, parks: bool) -> int:
        """The inside of a run. Once its result is durable, no later attempt comes here."""
        durable = self._runs.get((ctx.id, name))
        if durable is not None and durable[0] < ctx.attempt:
            self.wrong.append(f"{ctx.id} runs {name} in attempt {ctx.attempt}, durable since {durable[0]}")
        self.performed += 1
        mine = self.performed
        if parks:
            place = Place()
            self.parked.append(place)
            await place
        if self._rng.random() < 0.1:
            raise RuntimeError("a run that fails is repeated")
        return mine

    def ran(self, ctx: Context, name: str, result: int) -> None:
        """A run has returned, so its result is durable."""
        durable = self._runs.setdefault((ctx.id, name), (ctx.attempt, result))
        if durable[1] != result:
            self.wrong.append(f"the run {name} of {ctx.id} was {durable[1]} and is {result} now")

    def told(self, ctx: Context, future: CallFuture, result: Any) -> None:
        """A call has come back with an output: that of what was called, and in each attempt the same."""
        self._same(ctx, future, result)
        if self.outputs.get(result[0]) != result:
            self.wrong.append(f"step {future.step} of {ctx.id} is told {result}, which nobody has returned")

    def told_failed(self, ctx: Context, future: CallFuture, outcome: str) -> None:
        """A call has come back without."""
        self._same(ctx, future, outcome)
        if not self.may_be_told(future.id, outcome):
            self.wrong.append(f"step {future.step} of {ctx.id} is told {outcome}, and {future.id} has not ended so")

    def _same(self, ctx: Context, future: CallFuture, result: Any) -> None:
        before = self._told.setdefault((ctx.id, future.step), result)
        if before != result:
            self.wrong.append(f"step {future.step} of {ctx.id} was told {before} and is told {result} now")

    def let_go(self) -> None:
        """One of those in the middle of a run goes on."""
        self.parked.pop(self._rng.randrange(len(self.parked))).set_result(None)


def services(ledger: Ledger, retention: str | None) -> list[AnyService]:
    """A service, a virtual object and a workflow whose handlers run programs, kept for so long."""

    async def play(ctx: Context, program: Program) -> Any:
        kept: list[CallFuture] = []
        seen: list[Any] = [ctx.id]
        await _play(ctx, ledger, program, kept, seen)
        for future in kept:
            seen.append(await _result(ctx, ledger, future))
        return seen

    async def look(ctx: Context, program: Program) -> Any:
        return [ctx.id, await ctx.get("count")]

    plain = Service("Plain", retry=RETRY, retention=retention, idempotency_retention=retention)
    thing = VirtualObject("Thing", retry=RETRY, retention=retention)
    flow = Workflow("Flow", retry=RETRY, retention=retention, workflow_retention=retention)
    plain.handler(name="play")(play)
    thing.handler(name="play")(play)
    thing.shared(name="look")(look)
    flow.run(name="play")(play)
    flow.shared(name="look")(look)
    return [plain, thing, flow]


async def _play(ctx: Context, ledger: Ledger, program: Program, kept: list[CallFuture], seen: list[Any]) -> None:
    for op, *given in program:
        if op == "call":
            target, child, once, how = given
            future = ctx.call(target, child, idempotency_key=once)
            if how == "await":
                seen.append(await _result(ctx, ledger, future))
            elif how == "keep":
                kept.append(future)
        elif op == "send":
            target, child, once, delay = given
            ctx.send(target, child, delay=delay, idempotency_key=once)
        elif op == "sleep":
            await ctx.sleep(given[0])
        elif op == "race":
            target, child, once, seconds, cancels = given
            call = ctx.call(target, child, idempotency_key=once)
            contest: list[Future] = [call, ctx.sleep(seconds)]
            if await ctx.race(*contest) is call:
                seen.append(await _result(ctx, ledger, call))
            elif cancels:
                ctx.cancel(call.id)
                kept.append(call)
        elif op == "run":
            name, parks = given
            result = await ctx.run(name, ledger.perform, ctx, name, parks)
            ledger.ran(ctx, name, result)
            seen.append(result)
        elif op == "count":
            if ctx.key is not None:
                count = await ctx.get("count", 0)
                await ctx.sleep(given[0])
                ctx.set("count", count + 1)
        elif op == "break":
            if ctx.retry < given[0]:
                raise RuntimeError("it breaks")
        elif op == "fail":
            raise TerminalError("it fails for good")
        elif op == "try":
            await _try(ctx, ledger, given, kept, seen)


async def _try(ctx: Context, ledger: Ledger, given: list[Any], kept: list[CallFuture], seen: list[Any]) -> None:
    """A block with compensation, which it repeats the error after, or swallows it."""
    block, compensation, swallows = given
    try:
        await _play(ctx, ledger, block, kept, seen)
    except TerminalError as error:
        kept.clear()
        seen.append(type(error).__name__)
        await _play(ctx, ledger, compensation, kept, seen)
        if not swallows:
            raise


async def _result(ctx: Context, ledger: Ledger, future: CallFuture) -> Any:
    try:
        result = await future
    except CallFailed as error:
        ledger.told_failed(ctx, future, error.outcome)
        raise
    ledger.told(ctx, future, result)
    return result


class Author:
    """Draws programs for one tree."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self._rng = rng
        self._left = size
        """Invocations that may still be called."""
        self._runs = 0

    def target(self, above: int) -> tuple[str, str | None, int]:
        """Whom to call where keys up to `above` are held: the target, an idempotency key, and what is held there."""
        rng = self._rng
        number = above + rng.choice((1, 1, 1, 2))
        kind = rng.random()
        if number >= KEYS or kind < 0.4:
            return "Plain/play", None, above
        if kind < 0.65:
            return "Plain/play", f"once{number}", number
        if kind < 0.7:
            return f"{rng.choice(('Thing', 'Flow'))}/{number}/look", None, number
        return f"{rng.choice(('Thing', 'Thing', 'Flow'))}/{number}/play", None, number

    def program(self, above: int, depth: int) -> Program:
        """What a handler does that runs where keys up to `above` are held."""
        fewest, most = (3, 6) if depth < 2 else (0, 4)
        return [op for _ in range(self._rng.randint(fewest, most)) if (op := self._op(above, depth))]

    def _op(self, above: int, depth: int) -> list[Any] | None:
        rng = self._rng
        kind = rng.choices(
            ("call", "send", "race", "sleep", "run", "count", "break", "fail", "try"), (12, 2, 2, 2, 2, 1, 0.7, 0.3, 3)
        )[0]
        if kind in ("call", "send", "race"):
            if self._left <= 0 or depth > 6:
                return None
            self._left -= 1
            target, once, held = self.target(-1 if kind == "send" else above)
            child = self.program(held, depth + 1)
            if kind == "call":
                return [kind, target, child, once, rng.choice(("await", "await", "keep", "keep", "forget"))]
            if kind == "send":
                return [kind, target, child, once, rng.choice((None, None, 0.5, 30))]
            return [kind, target, child, once, rng.choice((0.05, 0.3, 5)), rng.random() < 0.7]
        if kind == "run":
            self._runs += 1
            return [kind, f"run{self._runs}", rng.random() < 0.4]
        if kind in ("sleep", "count"):
            return [kind, rng.choice((0.05, 0.3, 30))]
        if kind == "break":
            return [kind, rng.choice((1, 2, 5))]
        if kind == "try" and depth < 8:
            block, compensation = self.program(above, depth + 1), self.program(above, depth + 1)
            return [kind, block, compensation, rng.random() < 0.3]
        return ["fail"] if kind == "fail" else None
