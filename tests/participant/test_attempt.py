"""One attempt, with everything around it scripted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from coordinator.model import ids, limits
from coordinator.model.journal import StepKind
from coordinator.model.messages import BackingOff, Paused, Steps, Suspended
from coordinator.participant import (
    CallFailed,
    Cancelled,
    Context,
    RetryPolicy,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
)
from tests.participant.script import ID, SECOND, Partition, Running

Handler = Any


def of(function: Handler, *, input: bytes | None = None, raw: bool = False, **fields: Any) -> Partition:
    """An invocation of this handler."""
    service = Service("Greeter", retry=fields.pop("retry_policy", None))
    service.handler(name="greet", raw=raw)(function)
    return Partition(service, "greet", input, **fields)


def kinds(partition: Partition) -> list[StepKind]:
    return [StepKind(step.kind) for step in partition.steps]


def again(partition: Partition, running: Running) -> Running:
    """Its process ends, and another takes over."""
    running.kill()
    return partition.run()


# -- results -------------------------------------------------------------------------------------------------


def test_a_handler_gets_its_input_and_its_result_is_the_output() -> None:
    async def greet(ctx: Context, name: Any) -> str:
        return f"Hello {name}"

    partition = of(greet, input=b'"Ada"')
    running = partition.run()
    running.settle()
    assert partition.completed.outcome == "success"
    assert partition.completed.output == b'"Hello Ada"'


def test_without_an_input_a_handler_gets_none_or_takes_none() -> None:
    async def with_one(ctx: Context, input: Any) -> bool:
        return input is None

    async def without(ctx: Context) -> None:
        return None

    for function, output in ((with_one, b"true"), (without, None)):
        partition = of(function)
        partition.run().settle()
        assert partition.completed.output == output


def test_bytes_come_and_go_as_they_are_when_asked() -> None:
    async def reversed_(ctx: Context, data: bytes) -> bytes:
        return data[::-1]

    partition = of(reversed_, input=b"\xff\x00", raw=True)
    partition.run().settle()
    assert partition.completed.output == b"\x00\xff"


@pytest.mark.parametrize(("input", "said"), [(b"{", "is not what Greeter/greet takes"), (b'"x"', "Expected `int`")])
def test_an_input_that_is_not_what_the_handler_takes_fails_at_once(input: bytes, said: str) -> None:
    async def greet(ctx: Context, number: int) -> None:
        raise AssertionError

    partition = of(greet, input=input)
    partition.run().settle()
    assert partition.completed.outcome == "failure"
    assert said in str(partition.completed.failure)


def test_a_terminal_error_fails_at_once() -> None:
    async def greet(ctx: Context) -> None:
        raise TerminalError("no such name")

    partition = of(greet)
    partition.run().settle()
    assert (partition.completed.outcome, partition.completed.failure) == ("failure", "no such name")


def test_an_output_that_fits_into_no_record_fails_at_once() -> None:
    async def greet(ctx: Context) -> str:
        return "x" * limits.CALL_BYTES_MAX

    partition = of(greet)
    partition.run().settle()
    assert "keep what is larger elsewhere" in str(partition.completed.failure)


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, "\ud800"], ids=["object", "key", "surrogate"])
def test_an_output_that_has_no_json_is_named_by_the_failure(value: Any) -> None:
    async def greet(ctx: Context) -> Any:
        return value

    partition = of(greet)
    partition.run().settle()
    assert isinstance(partition.ending, BackingOff)
    assert partition.ending.failure.startswith("TypeError: the output of Greeter/greet has no JSON: ")


def test_who_it_is_stands_in_the_context() -> None:
    async def greet(ctx: Context) -> list[Any]:
        return [ctx.id, ctx.key, ctx.attempt, ctx.retry, ctx.idempotency_key, dict(ctx.headers)]

    partition = of(greet, retry=3, idempotency_key="k", headers={"a": "b"})
    partition.run().settle()
    assert partition.completed.output == f'["{ID}",null,1,3,"k",{{"a":"b"}}]'.encode()


# -- retries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failed", "pause"), [(0, SECOND), (1, 2 * SECOND), (2, 4 * SECOND), (3, 5 * SECOND)])
def test_a_failed_attempt_is_repeated_after_a_growing_pause(failed: int, pause: int) -> None:
    async def greet(ctx: Context) -> None:
        raise OSError("away")

    policy = RetryPolicy(initial="1s", factor=2, maximum=timedelta(seconds=5))
    partition = of(greet, retry=failed, retry_policy=policy)
    partition.run().settle()
    assert partition.ending == BackingOff(
        id=ID, attempt=1, retry_at=partition.now + pause, failure="OSError: away", retry=failed + 1
    )


def test_after_so_many_failed_attempts_it_is_paused() -> None:
    async def greet(ctx: Context) -> None:
        raise OSError

    partition = of(greet, retry=2, retry_policy=RetryPolicy(attempts=3))
    partition.run().settle()
    assert partition.ending == Paused(id=ID, attempt=1, failure="OSError", retry=3)


def test_without_a_number_of_attempts_the_pauses_stay_the_longest() -> None:
    assert RetryPolicy(attempts=None).pause_us(100_000) == 10 * SECOND


@pytest.mark.parametrize("policy", [RetryPolicy(factor=0.5), RetryPolicy(attempts=0), RetryPolicy(initial="soon")])
def test_a_policy_that_cannot_be_followed_is_refused_where_it_is_declared(policy: RetryPolicy) -> None:
    with pytest.raises(ValueError, match=r"cannot be followed|no duration"):
        Service("Greeter", retry=policy)


def test_steps_taken_before_a_failure_are_not_taken_again() -> None:
    async def greet(ctx: Context) -> None:
        ctx.send("Namer/note")
        if ctx.attempt == 1:
            raise OSError

    partition = of(greet)
    partition.run().settle()
    assert kinds(partition) == [StepKind.SEND]
    partition.run().settle()
    assert kinds(partition) == [StepKind.SEND]
    assert partition.completed.outcome == "success"


# -- calls ---------------------------------------------------------------------------------------------------


async def call_and_tell(ctx: Context, name: Any) -> Any:
    return await ctx.call("Namer/pick", name)


def test_a_call_is_told_when_the_handler_awaits_and_its_result_comes_back() -> None:
    partition = of(call_and_tell, input=b'"Ada"')
    running = partition.run()
    running.tell()
    (step,) = partition.steps
    assert step.call is not None
    assert (step.call.service, step.call.handler, step.call.input) == ("Namer", "pick", b'"Ada"')
    running.end_call(0, b'"Lovelace"')
    running.settle()
    assert partition.completed.output == b'"Lovelace"'


def test_a_call_is_not_made_again_by_another_attempt() -> None:
    partition = of(call_and_tell)
    running = partition.run()
    running.tell()
    running = again(partition, running)
    assert running.tell() == []
    running.end_call(0, b"1")
    running.settle()
    assert kinds(partition) == [StepKind.CALL]
    assert partition.completed.output == b"1"


def test_the_id_of_a_call_is_known_at_once_and_the_same_in_each_attempt() -> None:
    seen = []

    async def greet(ctx: Context) -> None:
        call = ctx.call("Cart/c1/add", 1)
        seen.append(call.id)
        await call

    partition = of(greet)
    running = partition.run()
    running.tell()
    again(partition, running)
    assert seen == [ids.derived_id(ID, 0, "c1")] * 2
    assert partition.journal[0].child == seen[0]


@pytest.mark.parametrize("outcome", ["failure", "cancelled", "killed"])
def test_a_call_that_did_not_end_well_raises_what_became_of_it(outcome: str) -> None:
    async def greet(ctx: Context) -> list[Any]:
        try:
            await ctx.call("Namer/pick")
        except CallFailed as error:
            return [error.outcome, error.failure, error.target, str(error)]
        raise AssertionError

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.end_call(0, outcome=outcome, failure="why")
    running.settle()
    how = "failed" if outcome == "failure" else f"was {outcome}"
    expected = f'["{outcome}","why","Namer/pick","Namer/pick {how}: why"]'
    assert partition.completed.output == expected.encode()


def test_a_failed_call_that_nobody_catches_fails_the_caller() -> None:
    partition = of(call_and_tell)
    running = partition.run()
    running.tell()
    running.end_call(0, outcome="cancelled")
    running.settle()
    assert (partition.completed.outcome, partition.completed.failure) == ("failure", "Namer/pick was cancelled")


def test_all_of_several_calls_are_under_way_at_once_and_come_back_in_order() -> None:
    async def greet(ctx: Context) -> Any:
        return await ctx.gather(*(ctx.call("Namer/pick", number) for number in range(40)))

    partition = of(greet)
    running = partition.run()
    reports = [report for report in running.tell() if isinstance(report, Steps)]
    assert [len(report.steps) for report in reports] == [16, 16, 8]
    for step in reversed(range(40)):
        running.end_call(step, b"%d" % step)
    running.settle()
    assert partition.completed.output == b"[" + b",".join(b"%d" % step for step in range(40)) + b"]"


def test_a_report_of_steps_stays_below_what_a_record_takes() -> None:
    async def greet(ctx: Context) -> None:
        for _ in range(4):
            ctx.send("Namer/note", "x" * (limits.CALL_BYTES_MAX // 2 - 1_000))

    partition = of(greet)
    running = partition.run()
    assert [len(report.steps) for report in running.reports if isinstance(report, Steps)] == [2, 2]


def test_a_send_is_detached_delayed_and_known_by_its_id() -> None:
    async def greet(ctx: Context) -> str:
        return ctx.send("Namer/note", {"a": 1}, delay="1m", headers={"h": "v"}, idempotency_key="once")

    partition = of(greet)
    partition.run().settle()
    (step,) = partition.steps
    assert step.kind == StepKind.SEND
    assert step.call is not None
    assert (step.call.delay, step.call.idempotency_key) == (60 * SECOND, "once")
    assert (step.call.headers, step.call.input) == ({"h": "v"}, b'{"a":1}')
    assert partition.completed.output == f'"{partition.journal[0].child}"'.encode()


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda ctx: ctx.call("Namer"), "names no handler"),
        (lambda ctx: ctx.call("/x"), "is no target"),
        (lambda ctx: ctx.call("Namer/pick", "x" * limits.CALL_BYTES_MAX), "keep what is larger elsewhere"),
        (lambda ctx: ctx.call("Namer/pick", headers={"h": "x" * limits.CALL_BYTES_MAX}), "input and headers"),
        (lambda ctx: ctx.send("Namer/pick", delay="soon"), "is no duration"),
        (lambda ctx: ctx.sleep(-1), "is no duration"),
        (lambda ctx: ctx.cancel("inv_nonsense"), "is not an invocation id"),
        (lambda ctx: ctx.call(f"{'x' * 300}/y"), "256 characters"),
    ],
)
def test_what_no_partition_would_take_fails_at_once(use: Any, said: str) -> None:
    async def greet(ctx: Context) -> None:
        use(ctx)

    partition = of(greet)
    partition.run().settle()
    assert partition.completed.outcome == "failure"
    assert said in str(partition.completed.failure)
    assert partition.steps == []


# -- sleeps and suspending -----------------------------------------------------------------------------------


async def sleep_long(ctx: Context) -> str:
    await ctx.sleep("1h")
    return "rested"


def test_a_long_sleep_lets_go_at_once_and_goes_on_when_it_is_over() -> None:
    partition = of(sleep_long)
    partition.run().settle()
    assert partition.ending == Suspended(id=ID, attempt=1, awaiting=(0,))
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert partition.completed.output == b'"rested"'
    assert kinds(partition) == [StepKind.SLEEP]


def test_a_short_sleep_is_slept_in_place() -> None:
    async def greet(ctx: Context) -> None:
        await ctx.sleep(0.1)

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.pass_time(SECOND // 10 - 1)
    assert running.tell() == []
    running.pass_time(1)
    running.settle()
    assert partition.completed.outcome == "success"


def test_a_handler_that_waits_for_a_call_lets_go_after_a_while() -> None:
    partition = of(call_and_tell)
    running = partition.run()
    running.tell()
    running.pass_time(running.inactivity_us - 1)
    assert running.tell() == []
    running.pass_time(1)
    assert running.tell() == [Suspended(id=ID, attempt=1, awaiting=(0,))]
    partition.end_call(0, b"1")
    partition.run().settle()
    assert partition.completed.output == b"1"


def test_every_step_of_a_race_is_awaited_by_a_suspended_one() -> None:
    async def greet(ctx: Context) -> None:
        await ctx.race(ctx.call("Namer/pick"), ctx.sleep("1h"), ctx.call("Namer/pick"))

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.pass_time(running.inactivity_us)
    running.settle()
    assert partition.suspended is not None
    assert partition.suspended.awaiting == (0, 1, 2)


def test_a_clock_behind_the_partitions_does_not_bounce_a_sleep() -> None:
    partition = of(sleep_long)
    partition.run().settle()
    partition.now += 3_600 * SECOND - SECOND  # the partition is a second ahead, so to it the sleep is over
    running = partition.run()
    running.tell()
    assert partition.ending is None
    running.pass_time(SECOND)
    running.settle()
    assert partition.completed.output == b'"rested"'


def test_what_a_handler_does_after_it_was_let_go_counts_for_nothing() -> None:
    undone = []

    async def greet(ctx: Context) -> None:
        try:
            await ctx.sleep("1h")
        finally:
            undone.append(ctx.attempt)
            await ctx.call("Namer/undo")

    partition = of(greet)
    partition.run().settle()
    assert undone == [1]
    assert kinds(partition) == [StepKind.SLEEP]
    assert isinstance(partition.ending, Suspended)


def test_a_handler_that_swallows_its_end_still_says_nothing_more() -> None:
    async def greet(ctx: Context) -> str:
        try:
            await ctx.sleep("1h")
        except BaseException:  # noqa: BLE001
            return "swallowed"
        return "rested"

    partition = of(greet)
    partition.run().settle()
    assert partition.ending == Suspended(id=ID, attempt=1, awaiting=(0,))


def test_a_dropped_attempt_says_nothing_more() -> None:
    partition = of(call_and_tell)
    running = partition.run()
    running.tell()
    running.attempt.drop()
    running.advance()
    assert running.reports == []


def test_a_report_that_is_refused_for_good_pauses_the_invocation() -> None:
    partition = of(call_and_tell, retry=1)
    running = partition.run()
    running.tell()
    running.attempt.refuse("too much")
    running.advance()
    running.settle()
    assert partition.ending == Paused(id=ID, attempt=1, failure="too much", retry=2)


# -- races ---------------------------------------------------------------------------------------------------


async def patient(ctx: Context) -> str:
    """The pattern of a time limit."""
    call = ctx.call("Slow/work")
    limit = ctx.sleep("1h")
    if await ctx.race(call, limit) is limit:
        ctx.cancel(call.id)
        return "too slow"
    return str(await call)


def test_the_first_that_is_done_wins_a_race() -> None:
    partition = of(patient)
    running = partition.run()
    running.tell()
    running.end_call(0, b'"done"')
    running.settle()
    assert partition.completed.output == b'"done"'
    assert kinds(partition) == [StepKind.CALL, StepKind.SLEEP, StepKind.RACE]


def test_a_call_that_loses_against_a_sleep_can_be_cancelled() -> None:
    partition = of(patient)
    running = partition.run()
    running.tell()
    running.pass_time(3_600 * SECOND)
    running.settle()
    assert partition.suspended is not None
    assert partition.wakes()
    running = partition.run()
    running.settle()
    assert partition.completed.output == b'"too slow"'
    assert kinds(partition) == [StepKind.CALL, StepKind.SLEEP, StepKind.RACE, StepKind.CANCEL]
    assert partition.steps[-1].name == partition.journal[0].child


def test_a_race_that_was_decided_is_decided_the_same_way_again() -> None:
    async def greet(ctx: Context) -> Any:
        first, second = ctx.call("Namer/first"), ctx.call("Namer/second")
        winner = await ctx.race(first, second)
        await ctx.sleep("1h")
        return [winner is second, await winner]

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.end_call(1, b'"second"')
    running.settle()
    partition.end_call(0, b'"first"')
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert partition.completed.output == b'[true,"second"]'


def test_a_race_without_the_future_that_won_it_does_not_fit_the_journal() -> None:
    raced = 2

    async def greet(ctx: Context) -> None:
        calls = [ctx.call("Namer/pick") for _ in range(2)]
        await ctx.race(*calls[:raced])
        await ctx.sleep("1h")

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.end_call(1, b'"second"')
    running.settle()
    raced = 1
    partition.run().settle()
    assert isinstance(partition.ending, Paused)
    assert "step 2 was a race and was won by its future number 2, and it has 1 now" in partition.ending.failure


def test_a_race_takes_only_what_can_be_awaited_together() -> None:
    async def greet(ctx: Context) -> None:
        await ctx.race(*(ctx.sleep(1) for _ in range(limits.AWAITED_MAX + 1)))

    partition = of(greet)
    partition.run().settle()
    assert "a race takes 1 to 64 futures" in str(partition.completed.failure)


def test_a_run_cannot_be_raced() -> None:
    async def greet(ctx: Context) -> None:
        run = ctx.run("x", greet)
        try:
            await ctx.gather(run)  # type: ignore[arg-type]
        finally:
            run.close()

    partition = of(greet)
    partition.run().settle()
    assert "ctx.gather takes what ctx.call and ctx.sleep give" in partition.ending.failure  # type: ignore[union-attr]


# -- runs ----------------------------------------------------------------------------------------------------


class Counting:
    """A function of the outside that counts how often it was called."""

    def __init__(self, result: Any = None) -> None:
        self.calls = 0
        self.result = result

    async def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result or list(args)


def counted(counting: Counting) -> Any:
    async def function(*args: Any) -> Any:
        return await counting(*args)

    return function


def test_a_run_goes_on_only_when_its_result_is_durable() -> None:
    reserve = Counting((1, 2))
    passed = []

    async def greet(ctx: Context) -> Any:
        result = await ctx.run("reserve", counted(reserve))
        passed.append(result)
        return result

    partition = of(greet)
    running = partition.run()
    assert (reserve.calls, passed) == (1, [])
    running.settle()
    assert passed == [[1, 2]], "as JSON gives it back, in this attempt as in any other"
    assert partition.completed.output == b"[1,2]"


def test_a_run_whose_result_is_durable_is_not_run_again() -> None:
    reserve = Counting()

    async def greet(ctx: Context) -> Any:
        result = await ctx.run("reserve", counted(reserve), 7)
        await ctx.sleep("1h")
        return result

    partition = of(greet)
    partition.run().settle()
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert reserve.calls == 1
    assert partition.completed.output == b"[7]"


def test_a_run_whose_result_was_lost_is_run_again() -> None:
    reserve = Counting()

    async def greet(ctx: Context) -> Any:
        return await ctx.run("reserve", counted(reserve))

    partition = of(greet)
    again(partition, partition.run()).settle()
    assert reserve.calls == 2
    assert kinds(partition) == [StepKind.RUN]


def test_a_run_that_fails_for_good_does_so_in_each_attempt() -> None:
    reserve = Counting(CallFailed("x", "y", "failure", "sold out"))

    async def greet(ctx: Context) -> Any:
        try:
            await ctx.run("reserve", counted(reserve))
        except TerminalError as error:
            await ctx.sleep("1h")
            return [str(error), type(error).__name__]

    partition = of(greet)
    partition.run().settle()
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert reserve.calls == 1
    assert partition.completed.output == b'["x failed: sold out","TerminalError"]'


def test_a_run_that_fails_otherwise_fails_the_attempt() -> None:
    async def greet(ctx: Context) -> None:
        ctx.send("Namer/note")
        await ctx.run("reserve", counted(Counting(OSError("away"))))

    partition = of(greet)
    partition.run().settle()
    assert isinstance(partition.ending, BackingOff)
    assert kinds(partition) == [StepKind.SEND]


def test_inside_of_a_run_the_context_may_not_be_used() -> None:
    async def greet(ctx: Context) -> None:
        async def inner() -> None:
            ctx.send("Namer/note")

        await ctx.run("inner", inner)

    partition = of(greet)
    partition.run().settle()
    assert isinstance(partition.ending, BackingOff)
    assert "uses the context" in partition.ending.failure


# -- state ---------------------------------------------------------------------------------------------------


def test_state_is_read_as_it_was_set_and_reads_the_same_again() -> None:
    cart = VirtualObject("Cart")

    @cart.handler
    async def add(ctx: Context, item: Any) -> Any:
        before = await ctx.get("items", [])
        ctx.set("items", [*before, item])
        ctx.set("gone", 1)
        ctx.clear("gone")
        await ctx.sleep("1h")
        return [before, await ctx.get("items"), await ctx.get("gone"), await ctx.get("new")]

    partition = Partition(cart, "add", b'"pen"', key="c1")
    partition.values = {"items": b'["ink"]'}
    partition.run().settle()
    assert partition.values == {"items": b'["ink","pen"]'}
    partition.now += 3_600 * SECOND
    running = partition.run()
    partition.values["new"] = b"1"  # by somebody else, meanwhile: it is as of the start
    running.settle()
    assert partition.completed.output == b'[["ink"],["ink","pen"],null,null]'


@pytest.mark.parametrize("change", [lambda ctx: ctx.set("a", 1), lambda ctx: ctx.clear("a")])
def test_a_shared_handler_changes_no_state(change: Any) -> None:
    order = Workflow("Order")

    @order.shared
    async def status(ctx: Context) -> Any:
        change(ctx)

    partition = Partition(order, "status", key="o1")
    partition.run().settle()
    assert isinstance(partition.ending, BackingOff)
    assert "Order/status may not change state" in partition.ending.failure


def test_a_plain_service_has_no_state() -> None:
    async def greet(ctx: Context) -> Any:
        await ctx.get("a")

    partition = of(greet)
    partition.run().settle()
    assert isinstance(partition.ending, BackingOff)
    assert "has no state" in partition.ending.failure


# -- cancellation --------------------------------------------------------------------------------------------


async def saga(ctx: Context) -> str:
    try:
        await ctx.call("Shop/reserve")
        await ctx.sleep("1h")
        await ctx.call("Shop/pay")
    except Cancelled:
        await ctx.call("Shop/release")
        raise
    return "bought"


def test_a_cancellation_surfaces_where_the_handler_waits_and_compensation_runs() -> None:
    partition = of(saga)
    running = partition.run()
    running.tell()
    running.signal()
    running.settle()
    assert kinds(partition) == [StepKind.CALL, StepKind.SURFACED, StepKind.CALL]
    assert partition.steps[1].number == 0
    running.end_call(2)
    running.settle()
    assert partition.completed.outcome == "cancelled"


def test_a_cancellation_that_was_asked_for_before_surfaces_behind_what_is_recorded() -> None:
    partition = of(saga)
    running = partition.run()
    running.tell()
    running.end_call(0)
    running.settle()
    partition.cancelled = True
    assert partition.wakes()
    running = partition.run()
    running.settle()
    assert kinds(partition) == [StepKind.CALL, StepKind.SLEEP, StepKind.SURFACED, StepKind.CALL]
    assert partition.steps[2].number == 1, "at the sleep, where it was before"


def test_a_cancellation_surfaces_once_and_in_later_attempts_at_the_same_place() -> None:
    partition = of(saga)
    running = partition.run()
    running.tell()
    running.signal()
    running.settle()
    before = list(partition.steps)
    partition.end_call(0)  # it would have a result by now
    running = again(partition, running)
    running.signal()
    running.tell()
    running.pass_time(running.inactivity_us)
    running.settle()
    assert partition.steps == before
    assert partition.suspended == Suspended(id=ID, attempt=2, cancelled=True, awaiting=(2,))
    partition.end_call(2)
    partition.run().settle()
    assert partition.steps == before
    assert partition.completed.outcome == "cancelled"


def test_a_handler_that_goes_on_after_its_cancellation_succeeds() -> None:
    async def greet(ctx: Context) -> str:
        try:
            await ctx.call("Shop/reserve")
        except Cancelled:
            return "anyway"
        raise AssertionError

    partition = of(greet)
    running = partition.run()
    running.signal()
    running.settle()
    assert (partition.completed.outcome, partition.completed.output) == ("success", b'"anyway"')


def test_a_cancellation_comes_before_a_result() -> None:
    async def greet(ctx: Context) -> None:
        await ctx.sleep(0)
        await ctx.run("x", counted(Counting()))

    partition = of(greet)
    partition.cancelled = True
    partition.run().settle()
    assert kinds(partition) == [StepKind.SLEEP, StepKind.SURFACED]
    assert partition.completed.outcome == "cancelled"


def test_a_run_is_not_begun_once_the_invocation_is_to_cancel() -> None:
    charge = Counting()

    async def greet(ctx: Context) -> None:
        try:
            await ctx.run("charge", counted(charge))
        finally:
            ctx.send("Shop/note")

    partition = of(greet)
    partition.cancelled = True
    partition.run().settle()
    assert charge.calls == 0
    assert kinds(partition) == [StepKind.SURFACED, StepKind.SEND]
    partition.run().settle()
    assert kinds(partition) == [StepKind.SURFACED, StepKind.SEND]
    assert partition.completed.outcome == "cancelled"


def test_a_run_that_was_under_way_is_kept_and_then_the_cancellation_surfaces() -> None:
    charge = Counting()

    async def greet(ctx: Context) -> None:
        await ctx.run("charge", counted(charge))

    partition = of(greet)
    running = partition.run()
    running.signal()
    running.settle()
    assert kinds(partition) == [StepKind.RUN, StepKind.SURFACED]
    partition.run().settle()
    assert charge.calls == 1
    assert partition.completed.outcome == "cancelled"


@pytest.mark.parametrize("when", ["before the race", "while it waits"])
def test_a_cancellation_surfaces_at_a_race(when: str) -> None:
    async def greet(ctx: Context) -> None:
        await ctx.race(ctx.call("Shop/pay"), ctx.sleep("1h"))

    partition = of(greet)
    partition.cancelled = when == "before the race"
    running = partition.run()
    running.signal()
    running.settle()
    assert kinds(partition) == [StepKind.CALL, StepKind.SLEEP, StepKind.SURFACED]
    assert partition.steps[-1].number == 2
    partition.run().settle()
    assert kinds(partition)[3:] == []
    assert partition.completed.outcome == "cancelled"


def test_a_future_that_was_awaited_is_no_await_point_any_more() -> None:
    async def greet(ctx: Context) -> Any:
        call = ctx.call("Namer/pick")
        first = await call
        caught = []
        try:
            caught.append(await call)
            await ctx.sleep("1h")
        except Cancelled:
            caught.append("cancelled")
        return [first, caught]

    partition = of(greet)
    running = partition.run()
    running.tell()
    running.end_call(0, b"1")
    running.settle()
    partition.cancelled = True
    for _ in range(2):
        partition.run().settle()
        assert partition.completed.output == b'[1,[1,"cancelled"]]'


# -- code that does not fit ----------------------------------------------------------------------------------


def changing(first: Any, later: Any) -> Any:
    """A handler whose first attempt runs other code than those after it."""

    async def greet(ctx: Context) -> None:
        if ctx.attempt == 1:
            await first(ctx)
            await ctx.sleep("1h")
        else:
            await later(ctx)

    return greet


async def _call(ctx: Context) -> None:
    await ctx.call("Namer/pick")


async def _send(ctx: Context) -> None:
    ctx.send("Namer/note")


async def _run(ctx: Context) -> None:
    await ctx.run("reserve", counted(Counting()))


async def _other_run(ctx: Context) -> None:
    await ctx.run("charge", counted(Counting()))


async def _nothing(ctx: Context) -> None:
    return None


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [
        (_send, _run, "step 0 was a send to Namer/note and is the run 'reserve' now"),
        (_run, _other_run, "step 0 was the run 'reserve' and is the run 'charge' now"),
        (_send, _call, "step 0 was a send to Namer/note and is a call of Namer/pick now"),
        (_run, _nothing, "step 0 was the run 'reserve' and the handler ends before it"),
    ],
)
def test_code_that_does_not_fit_the_journal_is_paused_and_both_steps_are_named(
    first: Any, later: Any, said: str
) -> None:
    partition = of(changing(first, later))
    partition.run().settle()
    before = list(partition.steps)
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert isinstance(partition.ending, Paused)
    assert partition.ending.failure.startswith(said)
    assert partition.ending.retry == 1
    assert partition.steps == before


def test_code_that_waits_where_it_had_gone_on_is_paused() -> None:
    async def greet(ctx: Context) -> None:
        call = ctx.call("Namer/pick")
        if ctx.attempt > 1:
            await call
        await ctx.sleep("1h")

    partition = of(greet)
    partition.run().settle()
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert isinstance(partition.ending, Paused)
    assert "the handler awaits step 0 before it, which is not done" in partition.ending.failure


def test_a_handler_cannot_catch_that_it_does_not_fit() -> None:
    async def swallowing(ctx: Context) -> None:
        try:
            await _run(ctx)
        except BaseException:  # noqa: BLE001
            return

    partition = of(changing(_send, swallowing))
    partition.run().settle()
    partition.now += 3_600 * SECOND
    partition.run().settle()
    assert isinstance(partition.ending, Paused)


def test_a_sleep_that_was_over_is_over_whatever_the_clock_says() -> None:
    async def greet(ctx: Context) -> None:
        await ctx.sleep("1h")
        ctx.send("Namer/note")
        await ctx.sleep("2h")

    partition = of(greet)
    partition.run().settle()
    partition.now += 3_600 * SECOND
    partition.run().settle()
    partition.now -= 1_800 * SECOND  # another machine's
    partition.run().settle()
    assert isinstance(partition.ending, Suspended)
    assert partition.ending.awaiting == (2,)
