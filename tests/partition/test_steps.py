"""The journal: what a handler has done is kept, told to later attempts, and never done a second time."""

from __future__ import annotations

import pytest

from coordinator.model import ids, limits
from coordinator.model.filters import Filter
from coordinator.model.invocation import STATE
from coordinator.model.journal import Call, Entry, Step, StepKind
from coordinator.model.messages import (
    Act,
    Context,
    Delivery,
    Invoke,
    Notify,
    Released,
    Serve,
    Signal,
    Start,
    decode_delivery,
)
from coordinator.partition.state import DELIVERIES
from tests.partition.world import SECOND, World, keyed

CALL = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))
SEND = Step(kind=StepKind.SEND, call=Call(service="Mailer", handler="send"))
RUN = Step(kind=StepKind.RUN, name="charge", value=b"paid")
SLEEP = Step(kind=StepKind.SLEEP, duration=10 * SECOND)


def setting(name: str, value: bytes) -> Step:
    return Step(kind=StepKind.SET, name=name, value=value)


def again(world: World, id: str) -> Start:
    """The start of the next attempt."""
    world.append(Released(id=id, attempt=world.row(id).attempt))
    return start_of(world.deliveries(), id)


def start_of(deliveries: list[Delivery], id: str) -> Start:
    [start] = [delivery for delivery in deliveries if isinstance(delivery, Start) and delivery.id == id]
    return start


# -- what is kept --------------------------------------------------------------------------------------------


def test_a_later_attempt_is_told_what_the_earlier_ones_have_done() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, RUN, SLEEP)
    world.take(id, Step(kind=StepKind.RUN, name="ship", failure="no such address"))
    start = again(world, id)
    assert start.entries == (
        Entry(step=0, kind=StepKind.RUN, name="charge", value=b"paid"),
        Entry(step=1, kind=StepKind.SLEEP, due_at=world.now + 10 * SECOND),
        Entry(step=2, kind=StepKind.RUN, name="ship", failure="no such address"),
    )
    assert not start.more


def test_a_step_is_taken_once_however_often_it_is_reported() -> None:
    world = World()
    id = world.in_status("running")
    [child, mail] = world.call(id, CALL, SEND)
    assert [child, mail] == [
        ids.child_id(id, 0, Call(service="Namer", handler="pick")),
        ids.child_id(id, 1, Call(service="Mailer", handler="send")),
    ]
    world.take(id, CALL, SEND, RUN, first=0)
    assert not world.commands()
    again(world, id)
    world.take(id, CALL, SEND, first=0)
    assert not world.commands()
    assert world.row(id).children == 1


def test_steps_of_an_old_attempt_change_nothing() -> None:
    world = World()
    id = world.in_status("running")
    world.append(Released(id=id, attempt=1))
    world.suspend(id)
    assert world.take(id, CALL).code == 409
    assert not world.commands()


def test_a_send_may_be_delayed() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, Step(kind=StepKind.SEND, call=Call(service="Mailer", handler="send", delay=5 * SECOND)))
    [invoke] = world.commands()
    assert isinstance(invoke, Invoke)
    assert (invoke.due_at, invoke.detached) == (world.now + 5 * SECOND, True)


def test_a_handler_may_cancel_another_invocation() -> None:
    world = World(2)
    other = world.in_status("running")
    id = world.in_status("running")
    world.take(id, Step(kind=StepKind.CANCEL, name=other))
    assert [type(command) for command in world.commands()] == [Act]
    world.arrive()
    assert [(type(delivery), delivery.id) for delivery in world.deliveries()] == [(Signal, other)]


@pytest.mark.parametrize(
    "step",
    [
        Step(kind=99),
        Step(kind=StepKind.CALL),
        Step(kind=StepKind.RUN, value=bytes(limits.CALL_BYTES_MAX + 1)),
        Step(kind=StepKind.RUN, name="x" * (limits.KEY_CHARS_MAX + 1)),
        Step(kind=StepKind.SET, name="a"),
        Step(kind=StepKind.SET),
        Step(kind=StepKind.CANCEL, name="nobody"),
    ],
    ids=[
        "a kind that there is not",
        "a call of nobody",
        "a large result",
        "a long name",
        "state of a service",
        "state without a name",
        "an id",
    ],
)
def test_a_step_that_cannot_be_taken_is_a_dead_letter_and_none_of_its_report_is(step: Step) -> None:
    world = World()
    id = world.in_status("running")
    assert world.take(id, RUN, step, first=0).code == 400
    assert len(world.dead_letters()) == 1
    assert again(world, id).entries == ()


# -- results of calls ----------------------------------------------------------------------------------------


def test_the_end_of_a_call_is_told_to_the_attempt_that_runs_and_to_later_ones() -> None:
    world = World(2)
    id = world.in_status("running")
    [child] = world.call(id, CALL)
    world.arrive()
    world.complete(child, output=b"Ann")
    world.arrive()
    ended = Entry(step=0, kind=StepKind.CALL, name="Namer/pick", child=child, outcome="success", value=b"Ann")
    [notify] = world.deliveries()
    assert isinstance(notify, Notify)
    assert notify.entry == ended
    assert again(world, id).entries == (ended,)


def test_a_failed_call_says_why() -> None:
    world = World()
    id = world.in_status("running")
    [child] = world.call(id, CALL)
    world.arrive()
    world.complete(child, "failure", failure="no such name")
    world.arrive()
    [notify] = world.deliveries()
    assert isinstance(notify, Notify)
    assert (notify.entry.outcome, notify.entry.failure) == ("failure", "no such name")


def test_a_suspended_one_is_woken_by_what_it_awaits_and_by_nothing_else() -> None:
    world = World()
    id = world.in_status("running")
    [first, second] = world.call(id, CALL, CALL)
    world.suspend(id, awaiting=(1,))
    world.arrive()
    world.complete(first, output=b"one")
    world.arrive()
    assert world.status(id) == "suspended"
    world.complete(second, output=b"two")
    world.arrive()
    assert [entry.value for entry in start_of(world.deliveries(), id).entries] == [b"one", b"two"]


def test_what_an_earlier_attempt_awaited_does_not_wake_it() -> None:
    world = World()
    id = world.in_status("running")
    [slow, fast, awaited] = world.call(id, CALL, CALL, CALL)
    world.suspend(id, awaiting=(0, 1))
    world.arrive()
    world.complete(fast)
    world.arrive()
    world.suspend(id, awaiting=(2,))
    world.complete(slow)
    world.arrive()
    assert world.status(id) == "suspended"
    world.complete(awaited)
    world.arrive()
    assert start_of(world.deliveries(), id).attempt == 3


def test_what_it_awaits_again_wakes_it_and_nothing_else_does() -> None:
    world = World()
    id = world.in_status("running")
    [again, fast, other] = world.call(id, CALL, CALL, CALL)
    world.suspend(id, awaiting=(0, 1))
    world.arrive()
    world.complete(fast)
    world.arrive()
    world.suspend(id, awaiting=(0,))
    world.complete(other)
    world.arrive()
    assert world.status(id) == "suspended"
    world.complete(again)
    world.arrive()
    assert start_of(world.deliveries(), id).attempt == 3


def test_what_it_awaits_may_have_ended_before_it_says_so() -> None:
    world = World()
    id = world.in_status("running")
    [child] = world.call(id, CALL)
    world.arrive()
    world.complete(child)
    world.arrive()
    world.suspend(id, awaiting=(0,))
    assert start_of(world.deliveries(), id).attempt == 2


def test_nothing_but_calls_and_sleeps_can_be_awaited() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, RUN)
    for step in (0, 1):
        answer = world.suspend(id, awaiting=(step,))
        assert answer is not None
        assert answer.code == 400
    assert world.status(id) == "running"
    too_many = world.suspend(id, awaiting=tuple(range(limits.AWAITED_MAX + 1)))
    assert too_many is not None
    assert too_many.code == 400


# -- sleeps --------------------------------------------------------------------------------------------------


def test_a_sleep_wakes_when_it_is_over_and_not_before() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, SLEEP)
    world.suspend(id, awaiting=(0,))
    world.tick(after=10 * SECOND - 1)
    assert world.status(id) == "suspended"
    world.tick(after=1)
    assert world.status(id) == "ready"
    assert start_of(world.deliveries(), id).entries[0].due_at == world.now


def test_the_first_of_several_sleeps_and_calls_wakes() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, SLEEP, Step(kind=StepKind.SLEEP, duration=3 * SECOND), CALL)
    world.suspend(id, awaiting=(0, 1, 2))
    world.tick(after=3 * SECOND)
    assert world.status(id) == "ready"


def test_a_sleep_that_is_over_already_wakes_at_once() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, Step(kind=StepKind.SLEEP, duration=0))
    world.suspend(id, awaiting=(0,))
    assert world.status(id) == "ready"


def test_a_sleeper_that_is_paused_and_resumed_sleeps_on() -> None:
    world = World()
    id = world.in_status("running")
    world.take(id, SLEEP)
    world.suspend(id, awaiting=(0,))
    world.act("pause", id)
    world.tick(after=20 * SECOND)
    assert world.status(id) == "paused"
    world.act("resume", id)
    assert start_of(world.deliveries(), id).entries[0].due_at == world.now - 10 * SECOND


# -- state ---------------------------------------------------------------------------------------------------


def test_the_state_of_a_key_goes_with_the_start_of_its_next_invocation() -> None:
    world = World()
    first = world.invoke("Cart", "add", key="a")
    world.take(first, setting("milk", b"1"), setting("eggs", b"12"), Step(kind=StepKind.CLEAR, name="milk"))
    world.complete(first)
    world.invoke("Cart", "add", key="b")
    assert start_of(world.deliveries(), keyed_id(world)).values == {}
    second = world.invoke("Cart", "add", key="a")
    assert start_of(world.deliveries(), second).values == {"eggs": b"12"}
    reader = world.invoke("Cart", "get", key="a", shared=True)
    assert start_of(world.deliveries(), reader).values == {"eggs": b"12"}
    assert world.take(reader, setting("eggs", b"0")).code == 400
    assert world.take(second, setting("", b"0")).code == 400


def keyed_id(world: World) -> str:
    [start] = [delivery for delivery in world.deliveries() if isinstance(delivery, Start)]
    return start.id


def test_a_set_that_is_reported_again_does_not_undo_a_later_one() -> None:
    world = World()
    id = world.invoke("Cart", "add", key="a")
    world.take(id, setting("eggs", b"1"), setting("eggs", b"2"))
    world.take(id, setting("eggs", b"1"), first=0)
    assert again(world, id).values == {"eggs": b"2"}


@pytest.mark.parametrize("before", [0, limits.ROWS_PER_RECORD_MAX - 2, limits.ROWS_PER_RECORD_MAX - 1])
def test_the_state_of_a_run_that_a_batch_has_purged_is_not_told(before: int) -> None:
    """However many rows the record has looked at before it comes to the one that would see the state."""
    world = World()
    run = world.invoke("Order", "run", key="o1", type=2)
    world.take(run, setting("state", b"paid"))
    world.complete(run)
    world.append(Serve(lanes=()), to=0)
    for number in range(before):
        world.invoke("Order", "run", key=f"other {number}", type=2)
    peek = world.invoke("Order", "peek", key="o1", type=2, shared=True)
    world.batch("r1", "purge", Filter(ids=(run,)))
    starts: list[Delivery] = []
    while len(starts) <= before:
        world.append(Serve(lanes=("Order",)), to=0)
        starts += world.deliveries()
    assert start_of(starts, peek).values == {}


def test_a_long_journal_of_one_that_sees_the_state_of_a_run_is_told_in_ticks_of_one_row() -> None:
    world = World()
    run = world.invoke("Order", "run", key="o1", type=2)
    world.take(run, setting("state", b"paid"))
    peek = world.invoke("Order", "peek", key="o1", type=2, shared=True)
    for _ in range(3 * limits.CONTEXT_ENTRIES_MAX):
        world.take(peek, RUN)
    start = again(world, peek)
    told = world.deliveries()
    for _ in range(9):
        world.tick(work=1)
        told += world.deliveries()
    pieces = [piece for piece in told if isinstance(piece, Context)]
    assert start.more
    assert {name: value for piece in pieces for name, value in piece.values.items()} == {"state": b"paid"}
    assert [piece.last for piece in pieces][-1:] == [True]


def test_the_state_of_a_workflow_belongs_to_its_run_and_goes_with_it() -> None:
    world = World()
    run = world.invoke("Order", "run", key="o1", type=2)
    world.take(run, setting("state", b"paid"))
    peek = world.invoke("Order", "peek", key="o1", type=2, shared=True)
    assert start_of(world.deliveries(), peek).values == {"state": b"paid"}
    world.complete(run)
    assert world.row(run).ties == STATE
    late = world.invoke("Order", "peek", key="o1", type=2, shared=True)
    assert start_of(world.deliveries(), late).values == {"state": b"paid"}
    world.act("purge", run)
    assert not list(dumped(world, "value"))
    next_run = world.invoke("Order", "run", key="o1", type=2, id=keyed("o1", 99))
    assert start_of(world.deliveries(), next_run).values == {}


def dumped(world: World, table: str) -> list[tuple[object, ...]]:
    return [row for name, row in world.partitions[0].store.dump() if name == table]


def test_a_killed_run_keeps_its_state_until_it_is_purged_by_a_batch() -> None:
    world = World()
    run = world.invoke("Order", "run", key="o1", type=2)
    world.take(run, setting("state", b"paid"))
    world.act("kill", run)
    assert world.row(run).ties == STATE
    world.batch("r1", "purge", Filter(service="Order"))
    world.settle()
    assert world.find(run) is None
    assert not dumped(world, "value")
    assert not dumped(world, "journal")


# -- removal -------------------------------------------------------------------------------------------------


def test_journals_go_with_what_was_purged_a_bounded_number_at_a_time() -> None:
    world = World()
    many = [world.invoke() for _ in range(30)]
    for id in many:
        world.take(id, *[RUN] * limits.STEPS_PER_REPORT_MAX)
        world.complete(id)
    kept = world.in_status("running")
    world.take(kept, RUN)
    world.batch("r1", "purge", Filter(service="Greeter"))
    ticks = world.tick_until_idle(work=100)
    assert ticks >= 30 * limits.STEPS_PER_REPORT_MAX // 100
    assert [row[0] for row in dumped(world, "journal")] == [world.row(kept).seq]


# -- long journals -------------------------------------------------------------------------------------------


def test_what_does_not_fit_into_a_start_follows_in_order_and_ends_with_the_state() -> None:
    world = World()
    id = world.invoke("Cart", "add", key="a")
    large = Step(kind=StepKind.RUN, name="load", value=bytes(limits.CONTEXT_BYTES_MAX // 2 - 50))
    for _ in range(5):
        world.take(id, large)
    world.take(id, setting("eggs", b"12"))
    pieces = told_again(world, id)
    assert [step for piece in pieces for step in steps_of(piece)] == list(range(6))
    assert [steps_of(piece) for piece in pieces] == [[0, 1], [2, 3], [4, 5]]
    assert [piece.values for piece in pieces] == [{}, {}, {"eggs": b"12"}]
    assert isinstance(pieces[0], Start)
    assert pieces[0].more
    assert [piece.last for piece in pieces[1:] if isinstance(piece, Context)] == [False, True]


def told_again(world: World, id: str) -> list[Start | Context]:
    """Everything that the next attempt is told before it may run."""
    sent = world.partitions[0].sent
    before = len(sent)
    world.append(Released(id=id, attempt=world.row(id).attempt))
    world.tick_until_idle()
    told = [delivery for delivery in deliveries_of(world, before) if isinstance(delivery, Start | Context)]
    assert {delivery.attempt for delivery in told} == {world.row(id).attempt}
    return told


def deliveries_of(world: World, before: int) -> list[Delivery]:
    return [decode_delivery(value) for value in world.of(DELIVERIES, world.partitions[0].sent[before:])]


def steps_of(piece: Start | Context) -> list[int]:
    return [entry.step for entry in piece.entries]


def test_a_journal_of_many_entries_is_told_in_pieces() -> None:
    world = World()
    id = world.in_status("running")
    count = 3 * limits.CONTEXT_ENTRIES_MAX + 7
    for first in range(0, count, limits.STEPS_PER_REPORT_MAX):
        world.take(id, *[RUN] * min(limits.STEPS_PER_REPORT_MAX, count - first))
    pieces = told_again(world, id)
    assert [step for piece in pieces for step in steps_of(piece)] == list(range(count))
    assert max(len(piece.entries) for piece in pieces) == limits.CONTEXT_ENTRIES_MAX


def test_no_more_is_told_to_an_attempt_that_is_over() -> None:
    world = World()
    id = world.in_status("running")
    for _ in range(0, 4 * limits.CONTEXT_ENTRIES_MAX, limits.STEPS_PER_REPORT_MAX):
        world.take(id, *[RUN] * limits.STEPS_PER_REPORT_MAX)
    world.append(Released(id=id, attempt=1))
    world.act("kill", id)
    before = len(world.partitions[0].sent)
    world.tick_until_idle()
    assert not [delivery for delivery in deliveries_of(world, before) if isinstance(delivery, Context)]
    assert world.partitions[0].machine.state.works == 0
