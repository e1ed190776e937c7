"""Whatever interrupts it, a handler does what it would have done undisturbed, and each step once.

A handler is drawn as a program, and beside it what happens to its attempts: killed, suspended, told late, asked to
cancel, at any point. Its partition is the model in `script`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coordinator.model.journal import Entry, StepKind
from coordinator.model.messages import Completed
from coordinator.participant import Cancelled, Context, VirtualObject
from tests.participant.script import SECOND, Partition, Running

NAMES = st.sampled_from(["a", "b"])
SPANS = st.sampled_from([0.0, 0.05, 0.3, 100.0])
SIMPLE = st.one_of(
    st.tuples(st.just("send")),
    st.tuples(st.just("call")),
    st.tuples(st.just("keep")),
    st.tuples(st.just("await kept")),
    st.tuples(st.just("gather kept")),
    st.tuples(st.just("sleep"), SPANS),
    st.tuples(st.just("run")),
    st.tuples(st.just("get"), NAMES),
    st.tuples(st.just("set"), NAMES),
    st.tuples(st.just("clear"), NAMES),
    st.tuples(st.just("race never")),
)
TIMED = st.tuples(st.just("race"), SPANS)
"""Whether the call or the sleep is first is a matter of time, so these programs have no one right course."""


def programs(ops: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    nested = st.tuples(st.just("saga"), st.lists(ops, max_size=4), st.lists(ops, max_size=3), st.booleans())
    return st.lists(st.one_of(ops, nested), max_size=7)


WHAT_HAPPENS = st.lists(
    st.sampled_from(["tell", "tell", "tell", "kill", "idle", "short", "end a call", "end a call"]), max_size=25
)
ANYTHING = st.lists(
    st.sampled_from(["tell", "tell", "tell", "kill", "idle", "short", "end a call", "end a call", "cancel"]),
    max_size=25,
)


class Play:
    """A handler that runs a program, and counts what it does outside."""

    def __init__(self, program: Any) -> None:
        self.runs: list[int] = []
        self.object = VirtualObject("Play")
        self.object.handler(self.play)
        self._program = program

    async def play(self, ctx: Context) -> Any:
        seen: list[Any] = []
        await self._block(ctx, self._program, seen, [])
        return seen

    async def _block(self, ctx: Context, program: Any, seen: list[Any], kept: list[Any]) -> None:
        for op in program:
            if op[0] == "saga":
                await self._saga(ctx, op, seen, kept)
            else:
                await self._op(ctx, op, seen, kept)

    async def _saga(self, ctx: Context, op: Any, seen: list[Any], kept: list[Any]) -> None:
        _, body, compensation, raise_again = op
        try:
            await self._block(ctx, body, seen, kept)
        except Cancelled:
            seen.append("cancelled")
            await self._block(ctx, compensation, seen, kept)
            if raise_again:
                raise

    async def _op(self, ctx: Context, op: Any, seen: list[Any], kept: list[Any]) -> None:
        match op:
            case ["send"]:
                seen.append(ctx.send("Namer/note", len(seen)))
            case ["call"]:
                seen.append(await ctx.call("Namer/pick", len(seen)))
            case ["keep"]:
                kept.append(ctx.call("Namer/pick", len(seen)))
            case ["await kept"] if kept:
                seen.append(await kept[0])
            case ["gather kept"]:
                seen.append(await ctx.gather(*kept))
            case ["sleep", span]:
                seen.append(await ctx.sleep(span))
            case ["run"]:
                seen.append(await ctx.run("outside", self._outside, len(seen)))
            case ["get", name]:
                seen.append(await ctx.get(name))
            case ["set", name]:
                ctx.set(name, len(seen))
            case ["clear", name]:
                ctx.clear(name)
            case ["race never"]:
                never, soon = ctx.sleep("100000h"), ctx.call("Namer/pick", len(seen))
                seen.append(await ctx.race(never, soon) is soon)
            case ["race", span]:
                futures = (ctx.sleep(span), ctx.call("Namer/pick", len(seen)))
                seen.append(futures.index(await ctx.race(*futures)))

    async def _outside(self, number: int) -> int:
        self.runs.append(number)
        return number


def open_calls(partition: Partition) -> list[Entry]:
    return [entry for entry in partition.journal if not entry.done]


def result_of(entry: Entry) -> bytes:
    return b'"result of %d"' % entry.step


def happen(partition: Partition, running: Running, what: str, pick: int) -> Running:
    """One thing happens to it; what runs it afterwards."""
    calls = open_calls(partition)
    match what:
        case "tell":
            running.tell()
        case "kill":
            running.kill()
        case "idle":
            running.pass_time(SECOND)
        case "short":
            running.pass_time(SECOND // 20)
        case "cancel":
            running.signal()
        case "end a call" if calls:
            entry = calls[pick % len(calls)]
            running.end_call(entry.step, result_of(entry))
    return partition.run() if what == "kill" or (partition.suspended and partition.wakes()) else running


def finish(partition: Partition, running: Running) -> None:
    """Nothing interrupts it any more: every call ends, every sleep is over."""
    for _ in range(500):
        running.settle()
        if isinstance(partition.ending, Completed):
            return
        for entry in open_calls(partition):
            running.end_call(entry.step, result_of(entry))
        running.settle()
        running.pass_time(100 * SECOND)
        running.settle()
        if partition.suspended is not None and partition.wakes():
            running = partition.run()
    raise AssertionError(f"it comes to no end: {partition.ending}")


def undisturbed(program: Any) -> tuple[Play, Partition]:
    play = Play(program)
    partition = Partition(play.object, "play", key="k")
    finish(partition, partition.run())
    return play, partition


@given(programs(SIMPLE), WHAT_HAPPENS, st.integers(0, 10))
def test_an_interrupted_handler_does_what_it_would_have_done_undisturbed(
    program: Any, happenings: list[str], pick: int
) -> None:
    expected_play, expected = undisturbed(program)
    play = Play(program)
    partition = Partition(play.object, "play", key="k")
    running = partition.run()
    for what in happenings:
        if partition.ending is None or partition.suspended:
            running = happen(partition, running, what, pick)
    finish(partition, running)
    assert partition.steps == expected.steps
    assert partition.completed.output == expected.completed.output
    assert partition.values == expected.values
    assert sorted(set(play.runs)) == sorted(expected_play.runs), "a run whose result was lost was run again"


@given(programs(st.one_of(SIMPLE, TIMED)), ANYTHING, st.integers(0, 10))
def test_whatever_a_handler_came_to_its_journal_brings_it_there_again(
    program: Any, happenings: list[str], pick: int
) -> None:
    play = Play(program)
    partition = Partition(play.object, "play", key="k")
    running = partition.run()
    for what in happenings:
        if partition.ending is None or partition.suspended:
            running = happen(partition, running, what, pick)
    finish(partition, running)
    steps, runs, completed = list(partition.steps), list(play.runs), partition.completed
    surfaced = [step.kind for step in steps].count(StepKind.SURFACED)
    assert surfaced <= 1
    partition.cancelled = bool(surfaced)  # otherwise it came after the end
    finish(partition, partition.run())
    assert partition.steps == steps
    assert play.runs == runs
    assert (partition.completed.outcome, partition.completed.output) == (completed.outcome, completed.output)
