"""One invocation: how it begins, what is reported of it, what operators may do to it, how it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import (
    Act,
    BackingOff,
    Completed,
    Drop,
    Invoke,
    Paused,
    Report,
    Signal,
    Start,
    Started,
    Suspended,
)
from coordinator.model.statuses import ACTIONS, NAMES
from tests.partition.world import SECOND, World, keyed, unkeyed
from tests.simulation.cluster import Bounds, bounded

STATUSES = tuple(NAMES.values())

KILLED: tuple[int, str | None] = (200, "killed")
ANSWERS: dict[str, dict[str, tuple[int, str | None]]] = {
    "cancel": {
        "scheduled": (200, "cancelled"), "pending": (200, "cancelled"), "ready": (202, "ready"),
        "running": (202, "running"), "backing-off": (202, "ready"), "suspended": (202, "ready"),
        "paused": (202, "ready"), "completed": (409, "success"),
    },
    "kill": dict.fromkeys(STATUSES, KILLED) | {"completed": (409, "success")},
    "pause": {
        "scheduled": (409, "scheduled"), "pending": (409, "pending"), "ready": (200, "paused"),
        "running": (200, "paused"), "backing-off": (200, "paused"), "suspended": (200, "paused"),
        "paused": (409, "paused"), "completed": (409, "success"),
    },
    "resume": {
        "scheduled": (409, "scheduled"), "pending": (409, "pending"), "ready": (200, "ready"),
        "running": (200, "running"), "backing-off": (200, "ready"), "suspended": (200, "suspended"),
        "paused": (200, "ready"), "completed": (409, "success"),
    },
    "purge": {status: (409, status) for status in STATUSES} | {"completed": (200, None)},
    "restart-as-new": {status: (409, status) for status in STATUSES} | {"completed": (202, "success")},
    "count": {status: (200, {"completed": "success"}.get(status, status)) for status in STATUSES},
}  # fmt: skip


def test_the_table_of_answers_is_complete() -> None:
    assert set(ANSWERS) == set(ACTIONS)
    assert all(set(answers) == set(STATUSES) for answers in ANSWERS.values())


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_action_in_every_status_is_answered_by_the_table(status: str, action: str) -> None:
    world = World()
    id = world.in_status(status)
    answer = world.act(action, id)
    assert (answer.code, world.status(id)) == ANSWERS[action][status]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_batch_of_one_leaves_the_status_that_the_single_action_leaves(status: str, action: str) -> None:
    world = World()
    id = world.in_status(status)
    world.batch("r1", action, Filter(ids=(id,), status=STATUSES))
    world.tick_until_idle()
    assert world.status(id) == ANSWERS[action][status][1]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_what_is_not_there_is_answered_404(action: str) -> None:
    assert World().act(action, unkeyed(1)).code == 404


# -- the beginning -----------------------------------------------------------------------------------------------


def test_an_invocation_is_started_by_the_record_that_creates_it() -> None:
    world = World()
    id = world.invoke(input=b"in", headers={"a": "b"}, deployment="dp1")
    assert world.deliveries() == [
        Start(id=id, attempt=1, service="Greeter", handler="greet", input=b"in", headers={"a": "b"}, deployment="dp1")
    ]


def test_the_same_id_is_created_once() -> None:
    world = World()
    id = world.invoke()
    answer = world.answer(Invoke(id=id, service="Other", handler="other"))
    assert (answer.code, answer.id, answer.status) == (200, id, "ready")
    assert world.row(id).service == "Greeter"


def test_an_idempotency_key_counts_for_one_target() -> None:
    world = World()
    first = world.invoke(idempotency_key="once")
    again = world.answer(Invoke(id=unkeyed(1), service="Greeter", handler="greet", idempotency_key="once"))
    other = world.answer(Invoke(id=unkeyed(2), service="Greeter", handler="wave", idempotency_key="once"))
    assert (again.id, other.id) == (first, unkeyed(2))


def test_a_workflow_runs_once_for_each_key_and_its_other_handlers_as_often_as_asked() -> None:
    world = World()
    first = world.invoke("Flow", "run", key="a", type=2)
    again = world.answer(Invoke(id=keyed("a", 1), service="Flow", handler="run", key="a", type=2))
    assert again.id == first
    assert world.status(world.invoke("Flow", "peek", key="a", type=2, shared=True)) == "ready"
    assert world.status(world.invoke("Flow", "run", key="b", type=2)) == "ready"


def test_an_idempotency_key_is_free_again_after_the_retention() -> None:
    world = World()
    first = world.invoke(idempotency_key="once", retention=SECOND)
    world.complete(first)
    world.tick(after=SECOND)
    assert world.find(first) is None
    assert world.status(world.invoke(idempotency_key="once")) == "ready"


def test_a_start_time_that_has_passed_is_now() -> None:
    world = World()
    assert world.status(world.invoke(due_at=world.now)) == "ready"
    assert world.status(world.invoke(due_at=world.now + 1)) == "scheduled"


def test_an_id_of_another_partition_is_a_dead_letter() -> None:
    world = World(3)
    id = unkeyed(1)
    home = world.route(Act(action="kill", id=id))
    answer = world.answer(Invoke(id=id, service="Greeter", handler="greet"), to=(home + 1) % 3)
    assert answer.code == 400
    assert "does not belong to partition" in str(answer.detail)


# -- reports -----------------------------------------------------------------------------------------------------

REPORTS: tuple[Callable[[str, int], Report], ...] = (
    lambda id, attempt: Started(id=id, attempt=attempt),
    lambda id, attempt: Suspended(id=id, attempt=attempt),
    lambda id, attempt: BackingOff(id=id, attempt=attempt, retry_at=0, failure="no", retry=1),
    lambda id, attempt: Paused(id=id, attempt=attempt, failure="no", retry=1),
    lambda id, attempt: Completed(id=id, attempt=attempt, outcome="success"),
)


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_a_report_of_another_attempt_changes_nothing(report: Callable[[str, int], Report], attempt: int) -> None:
    world = World()
    id = world.in_status("running")
    world.back_off(id)
    world.tick(after=SECOND)
    assert world.row(id).attempt == 2
    before = world.row(id)
    assert world.answer(report(id, attempt)).code == 409
    assert world.row(id) == before


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("action", ["pause", "kill"])
def test_a_report_after_the_attempt_was_taken_back_changes_nothing(
    report: Callable[[str, int], Report], action: str
) -> None:
    world = World()
    id = world.in_status("running")
    world.act(action, id)
    assert world.deliveries() == [Drop(id=id, attempt=1)]
    before = world.row(id)
    assert world.answer(report(id, 1)).code == 409
    assert world.row(id) == before


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_may_overtake_the_one_that_it_runs(report: Callable[[str, int], Report]) -> None:
    world = World()
    id = world.invoke()
    assert world.answer(report(id, 1)).code == 200


def test_that_it_runs_may_be_reported_twice() -> None:
    world = World()
    id = world.in_status("running")
    assert world.answer(Started(id=id, attempt=1)).code == 200
    assert world.status(id) == "running"


@pytest.mark.parametrize("outcome", ["killed", "bogus"])
def test_a_participant_cannot_report_an_outcome_that_is_not_its_own(outcome: str) -> None:
    world = World()
    id = world.in_status("running")
    answer = world.complete(id, outcome)
    assert answer is not None
    assert answer.code == 400
    assert world.status(id) == "running"


def test_a_retry_starts_the_next_attempt_when_it_is_due() -> None:
    world = World()
    id = world.in_status("running")
    world.back_off(id, 10 * SECOND)
    assert (world.row(id).retry, world.row(id).last_failure) == (1, "no")
    world.tick(after=9 * SECOND)
    assert world.status(id) == "backing-off"
    world.tick(after=SECOND)
    assert [(delivery.id, delivery.attempt) for delivery in world.deliveries()] == [(id, 2)]


def test_a_long_failure_is_cut() -> None:
    world = World()
    id = world.in_status("running")
    world.append(Paused(id=id, attempt=1, failure="x" * 10_000, retry=1))
    assert world.row(id).last_failure == "x" * limits.FAILURE_CHARS_MAX


def test_the_output_is_kept_beside_the_input() -> None:
    world = World()
    id = world.invoke(input=b"in")
    world.complete(id, output=b"out")
    payload = world.partitions[0].store.payload(world.row(id).seq)
    assert (payload.input, payload.output) == (b"in", b"out")


# -- cancel, kill, resume ----------------------------------------------------------------------------------------


def test_a_cancelled_handler_is_signalled_once() -> None:
    world = World()
    id = world.in_status("running")
    world.act("cancel", id)
    assert world.deliveries() == [Signal(id=id, attempt=1)]
    world.act("cancel", id)
    assert world.deliveries() == []


@pytest.mark.parametrize("status", ["backing-off", "suspended", "paused"])
def test_a_cancelled_one_that_nobody_runs_is_started_so_that_it_can_compensate(status: str) -> None:
    world = World()
    id = world.in_status(status)
    world.act("cancel", id)
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert (start.attempt, start.cancelled) == (2, True)


def test_a_handler_may_refuse_its_cancel_and_succeed() -> None:
    world = World()
    id = world.in_status("running")
    world.act("cancel", id)
    world.complete(id, "success")
    assert world.status(id) == "success"


def test_a_killed_one_is_dropped_and_not_started_again() -> None:
    world = World()
    id = world.in_status("backing-off")
    world.act("kill", id)
    world.tick(after=3_600 * SECOND)
    assert (world.status(id), world.row(id).attempt) == ("killed", 1)


def test_a_resumed_retry_starts_at_once() -> None:
    world = World()
    id = world.in_status("backing-off")
    world.act("resume", id, deployment="dp2")
    assert [(delivery.id, delivery.attempt) for delivery in world.deliveries()] == [(id, 2)]
    assert world.row(id).deployment == "dp2"
    world.tick(after=3_600 * SECOND)
    assert world.row(id).attempt == 2


def test_purging_frees_the_id() -> None:
    world = World()
    id = world.in_status("completed")
    world.act("purge", id)
    assert world.find(id) is None
    assert world.answer(Invoke(id=id, service="Greeter", handler="greet")).status == "ready"


# -- deliveries --------------------------------------------------------------------------------------------------


def test_no_more_than_the_bound_are_outstanding_and_the_others_follow_in_order() -> None:
    with bounded(Bounds(deliveries=2)):
        world = World()
        ids = [world.invoke() for _ in range(5)]
        assert [world.row(id).attempt for id in ids] == [1, 1, 0, 0, 0]
        world.complete(ids[1])
        assert [delivery.id for delivery in world.deliveries()] == [ids[2]]
        world.act("kill", ids[3])
        world.suspend(ids[0])
        assert [delivery.id for delivery in world.deliveries()] == [ids[4]]


def test_newcomers_do_not_overtake_the_backlog() -> None:
    with bounded(Bounds(deliveries=1)):
        world = World()
        ids = [world.invoke() for _ in range(3)]
        world.complete(ids[0])
        late = world.invoke()
        world.complete(ids[1])
        assert [delivery.id for delivery in world.deliveries()][-1] == ids[2]
        world.complete(ids[2])
        assert [delivery.id for delivery in world.deliveries()][-1] == late
