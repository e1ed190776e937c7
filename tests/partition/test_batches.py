"""Batches on one partition: when they come in force, what steers them, what they count."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Commit, Control
from coordinator.model.statuses import ACTIONS, NAMES, Action, acts_on
from coordinator.partition.state import Phase
from tests.partition.world import SECOND, World
from tests.simulation.cluster import Bounds, bounded

ALL = Filter(all=True)


# -- in force at its position ------------------------------------------------------------------------------------


def test_what_came_before_is_in_scope_and_nothing_after() -> None:
    world = World()
    before = [world.invoke() for _ in range(3)]
    world.batch("r1", "kill", ALL)
    after = [world.invoke() for _ in range(3)]
    assert {world.seen(id) for id in before} == {"killed"}
    world.tick_until_idle()
    assert {world.status(id) for id in before} == {"killed"}
    assert {world.status(id) for id in after} == {"ready"}
    assert world.counts("r1") == {"matched": 3, "ended": 3}


def test_a_batch_touches_no_row_when_it_comes_in_force() -> None:
    world = World()
    for _ in range(20):
        world.invoke()
    world.batch("r1", "kill", ALL)
    assert not world.partitions[0].looked_at
    assert not world.partitions[0].store.written


def test_a_row_that_is_caught_up_has_the_time_of_the_batch() -> None:
    world = World()
    id = world.in_status("suspended")
    world.batch("r1", "kill", ALL, paused=True)
    position, at = world.partitions[0].machine.position, world.now
    world.now += 5 * SECOND
    world.act("count", id)
    row = world.row(id)
    assert (row.completed_at, row.modified_at, row.timer_at) == (at, at, at + row.retention)
    assert (row.batch, row.caught_up_to) == (position, position)


def test_a_batch_stops_nobody_from_being_started_that_it_does_not_match() -> None:
    world = World()
    world.batch("r1", "kill", ALL, paused=True)
    new = world.invoke()
    assert [delivery.id for delivery in world.deliveries()] == [new]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_filter_without_a_status_means_those_that_the_action_may_act_on(action: str) -> None:
    world = World()
    ids = {status: world.in_status(status) for status in NAMES.values()}
    world.batch("r1", action, Filter(ids=tuple(ids.values())))
    world.tick_until_idle()
    assert world.counts("r1")["matched"] == len(acts_on(Action(action)))
    assert "not_applicable" not in world.counts("r1")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_named_status_that_the_action_may_not_act_on_is_counted_as_not_applicable(action: str) -> None:
    world = World()
    ids = tuple(world.in_status(status) for status in NAMES.values())
    may = len(acts_on(Action(action)))
    world.batch("r1", action, Filter(ids=ids, status=tuple(NAMES.values())))
    world.tick_until_idle()
    counts = world.counts("r1")
    assert counts["matched"] == len(ids)
    assert counts.get("not_applicable", 0) == len(ids) - may


# -- request ids -------------------------------------------------------------------------------------------------


def test_the_first_position_of_a_request_id_wins() -> None:
    world = World()
    id = world.in_status("suspended")
    assert world.batch("r1", "pause", ALL).code == 202
    position = world.told("r1").position
    assert world.batch("r1", "kill", ALL).code == 200
    world.tick_until_idle()
    assert world.status(id) == "paused"
    assert world.told("r1").position == position


def test_a_repeat_is_answered_with_the_progress_of_the_first() -> None:
    world = World()
    world.invoke()
    world.batch("r1", "kill", ALL)
    world.tick_until_idle()
    told = world.told("r1")
    world.batch("r1", "kill", ALL)
    again = world.told("r1")
    assert again.number == told.number + 1
    assert (again.state, again.tally, again.position) == (told.state, told.tally, told.position)


def test_a_batch_after_its_not_after_is_refused() -> None:
    world = World()
    id = world.invoke()
    answer = world.batch("r1", "kill", ALL, not_after=world.now - 1)
    assert answer.code == 409
    assert world.told("r1").state == "refused"
    world.tick_until_idle()
    assert world.status(id) == "ready"


def test_a_batch_at_its_not_after_is_taken() -> None:
    world = World()
    assert world.batch("r1", "kill", ALL, not_after=world.now).code == 202


def test_a_refused_batch_may_be_sent_again() -> None:
    world = World()
    world.batch("r1", "kill", ALL, not_after=world.now - 1)
    assert world.batch("r1", "kill", ALL).code == 202


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"filter": Filter()}, "all: true"),
        ({"filter": Filter(status=("bogus",))}, "filter.status has no 'bogus'"),
        ({"action": "restart"}, "action 'restart' is none of"),
        ({"request": "r" * 257}, "a request id has 1 to 256 characters"),
        ({"request": ""}, "a request id has 1 to 256 characters"),
    ],
)
def test_a_batch_that_cannot_be_meant_so_is_refused_and_told(fields: dict[str, Any], reason: str) -> None:
    world = World()
    answer = world.batch(**{"request": "r1", "action": "kill", "filter": ALL, **fields})
    assert answer.code == 409
    assert reason in str(answer.detail)
    assert not world.partitions[0].machine.batches


def test_a_full_partition_refuses_and_has_room_again_later() -> None:
    world = World()
    for number in range(limits.PENDING_BATCHES_MAX):
        assert world.batch(f"r{number}", "kill", ALL).code == 202
    assert world.batch("one more", "kill", ALL).detail == "full"
    assert world.told("one more").reason == "full"
    world.tick_until_idle()
    assert world.batch("one more", "kill", ALL).code == 202


def test_a_full_partition_takes_a_batch_that_was_aborted_before_it_came() -> None:
    with bounded(Bounds(pending=1)):
        world = World()
        world.batch("r1", "kill", ALL)
        world.append(Control(request="r2", revision=1, aborted=True))
        assert world.batch("r2", "kill", ALL).code == 202
        assert world.told("r2").state == "aborted"


def test_another_batch_under_a_remembered_request_id_is_refused() -> None:
    world = World()
    world.batch("r1", "kill", ALL)
    answer = world.batch("r1", "kill", ALL, not_after=world.now)
    assert answer.code == 409
    assert "its request id was used before" in str(answer.detail)
    assert len(world.partitions[0].machine.pending) == 1


def test_a_prepared_batch_keeps_its_place_so_that_its_commit_finds_room() -> None:
    with bounded(Bounds(pending=2)):
        world = World()
        world.batch("guarded", "kill", ALL, guarded=True)
        world.tick_until_idle()
        world.batch("other", "kill", ALL, paused=True)
        assert world.batch("third", "kill", ALL).detail == "full"
        assert world.answer(Commit(request="guarded", not_after=world.now)).code == 202
        assert len(world.partitions[0].machine.pending) == 2


def test_a_batch_is_forgotten_when_no_repeat_can_come_and_no_row_names_it() -> None:
    world = World()
    world.invoke(retention=SECOND)
    world.batch("r1", "kill", ALL)
    world.tick_until_idle()
    world.tick(after=limits.REMEMBERED_US)
    assert "r1" in world.partitions[0].machine.batches
    world.tick(after=limits.NOT_AFTER_US + SECOND)
    assert "r1" not in world.partitions[0].machine.batches
    world.partitions[0].restart()
    assert "r1" not in world.partitions[0].machine.batches


def test_a_batch_is_not_forgotten_while_it_owes_progress() -> None:
    world = World()
    id = world.in_status("running")
    world.batch("r1", "cancel", ALL, not_after=world.now)
    world.tick_until_idle()
    world.now += limits.REMEMBERED_US + limits.RETENTION_DEFAULT_US + SECOND
    world.append(Control(request="r1", revision=0))  # it is told now, and so not again within half a second
    world.complete(id, "cancelled")
    world.tick()
    assert "r1" in world.partitions[0].machine.batches
    world.tick(after=SECOND)
    assert world.told("r1").tally.ended == 1
    assert "r1" not in world.partitions[0].machine.batches
    assert not world.partitions[0].machine.owing


# -- controls ----------------------------------------------------------------------------------------------------


def test_a_paused_batch_is_in_force_and_decides_nobody_by_itself() -> None:
    world = World()
    id = world.in_status("suspended")
    world.batch("r1", "kill", ALL)
    world.append(Control(request="r1", revision=1, paused=True))
    assert world.told("r1").state == "paused"
    world.tick()
    assert (world.status(id), world.seen(id)) == ("suspended", "killed")
    world.append(Control(request="r1", revision=2))
    world.tick()
    assert world.status(id) == "killed"
    assert world.told("r1").state == "completed"


@pytest.mark.parametrize("revision", [0, 1, 2])
def test_a_control_of_a_lower_or_equal_revision_is_ignored(revision: int) -> None:
    world = World()
    world.batch("r1", "kill", ALL)
    world.append(Control(request="r1", revision=2, paused=True))
    world.append(Control(request="r1", revision=revision, aborted=True))
    assert world.partitions[0].machine.batches["r1"].phase is Phase.PENDING
    assert world.told("r1").revision == 2


def test_an_abort_that_comes_before_its_batch_keeps_it_out_of_force() -> None:
    world = World()
    id = world.invoke()
    world.append(Control(request="r1", revision=1, aborted=True))
    assert world.batch("r1", "kill", ALL).code == 202
    assert world.seen(id) == "ready"
    world.tick_until_idle()
    assert world.told("r1").state == "aborted"
    assert world.status(id) == "ready"


def test_a_pause_that_comes_before_its_batch_holds_it() -> None:
    world = World()
    world.append(Control(request="r1", revision=3, paused=True, rate=7))
    world.batch("r1", "kill", ALL, revision=2)
    batch = world.partitions[0].machine.batches["r1"]
    assert (batch.revision, batch.paused, batch.rate) == (3, True, 7)


def test_a_newer_batch_record_overrides_an_older_control_that_came_before_it() -> None:
    world = World()
    world.append(Control(request="r1", revision=1, paused=True))
    world.batch("r1", "kill", ALL, revision=2)
    assert not world.partitions[0].machine.batches["r1"].paused


def test_an_announced_batch_survives_a_restart() -> None:
    world = World()
    world.append(Control(request="r1", revision=1, aborted=True))
    world.partitions[0].restart()
    world.batch("r1", "kill", ALL)
    assert world.told("r1").state == "aborted"


def test_a_batch_that_is_over_cannot_be_aborted() -> None:
    world = World()
    world.batch("r1", "kill", ALL)
    world.tick_until_idle()
    world.append(Control(request="r1", revision=1, aborted=True))
    assert world.told("r1").state == "completed"


# -- rate and turns ----------------------------------------------------------------------------------------------


def test_a_rate_bounds_the_matches_of_each_second() -> None:
    world = World()
    for _ in range(10):
        world.invoke()
    world.batch("r1", "kill", ALL, rate=2)
    matched = []
    for _ in range(4):
        world.tick(after=SECOND)
        matched.append(world.counts("r1")["matched"])
    assert matched == [2, 4, 6, 8]


def test_a_rate_is_lifted_by_a_control() -> None:
    world = World()
    for _ in range(10):
        world.invoke()
    world.batch("r1", "kill", ALL, rate=2)
    world.tick(after=SECOND)
    world.append(Control(request="r1", revision=1))
    world.tick()
    assert world.counts("r1")["matched"] == 10


def test_a_rate_of_zero_decides_nobody_by_itself() -> None:
    world = World()
    id = world.invoke()
    world.batch("r1", "kill", ALL, rate=0)
    world.tick(after=100 * SECOND)
    assert (world.status(id), world.seen(id)) == ("ready", "killed")


def test_batches_take_turns_so_that_a_late_one_need_not_wait_for_an_early_one() -> None:
    world = World()
    for _ in range(6):
        world.invoke()
    for name in ("r1", "r2", "r3"):
        world.batch(name, "count", ALL)
    turns = []
    for _ in range(6):
        world.tick(sweep=1, single=1)
        turns.append(world.partitions[0].machine.state.turn)
    first, second, third = sorted(set(turns))
    assert turns == [first, second, third] * 2


# -- guards ------------------------------------------------------------------------------------------------------


def test_a_guarded_batch_marks_and_touches_nobody_before_its_commit() -> None:
    world = World()
    ids = [world.in_status("suspended") for _ in range(3)]
    world.batch("r1", "kill", ALL, guarded=True)
    world.tick_until_idle()
    assert {world.seen(id) for id in ids} == {"suspended"}
    assert (world.told("r1").state, world.told("r1").members) == ("prepared", 3)
    assert world.counts("r1") == {}


def test_a_commit_acts_on_members_in_the_state_of_its_position() -> None:
    world = World()
    left, ended, purged, paused = (world.in_status("suspended") for _ in range(4))
    world.batch("r1", "kill", Filter(all=True, status=("suspended",)), guarded=True)
    world.tick_until_idle()
    world.act("kill", ended)
    world.act("kill", purged)
    world.act("purge", purged)
    world.act("pause", paused)  # no longer what the filter says, and a member all the same
    newcomer = world.in_status("suspended")
    world.append(Commit(request="r1", not_after=world.now))
    assert (world.seen(left), world.seen(paused), world.seen(newcomer)) == ("killed", "killed", "suspended")
    world.tick_until_idle()
    assert world.status(newcomer) == "suspended"
    assert world.counts("r1") == {"matched": 4, "ended": 2, "ended_by_other": 2}
    assert world.told("r1").state == "completed"


def test_a_commit_never_touches_more_than_was_counted() -> None:
    world = World()
    for _ in range(5):
        world.invoke()
    world.batch("r1", "kill", ALL, guarded=True)
    world.invoke()
    world.tick_until_idle()
    world.invoke()
    world.append(Commit(request="r1", not_after=world.now))
    world.tick_until_idle()
    assert world.counts("r1") == {"matched": 5, "ended": 5}


def test_a_commit_that_comes_too_late_aborts() -> None:
    world = World()
    id = world.invoke()
    world.batch("r1", "kill", ALL, guarded=True)
    world.tick_until_idle()
    assert world.answer(Commit(request="r1", not_after=world.now - 1)).code == 409
    world.tick_until_idle()
    assert (world.told("r1").state, world.status(id)) == ("aborted", "ready")


@pytest.mark.parametrize("when", ["never", "marking", "committed", "aborted"])
def test_a_commit_of_what_is_not_prepared_is_refused(when: str) -> None:
    world = World()
    world.invoke()
    if when != "never":
        world.batch("r1", "kill", ALL, guarded=True)
    if when in ("committed", "aborted"):
        world.tick_until_idle()
    if when == "committed":
        world.append(Commit(request="r1", not_after=world.now))
    if when == "aborted":
        world.append(Control(request="r1", revision=1, aborted=True))
    assert world.answer(Commit(request="r1", not_after=world.now)).code == 409


def test_members_of_a_batch_that_is_over_are_forgotten() -> None:
    world = World()
    for _ in range(40):
        world.invoke()
    for request, commit in (("r1", True), ("r2", False)):
        world.batch(request, "count", ALL, guarded=True)
        world.tick_until_idle()
        if commit:
            world.append(Commit(request=request, not_after=world.now))
        else:
            world.append(Control(request=request, revision=1, aborted=True))
        world.tick_until_idle()
    assert not [fact for fact in world.partitions[0].store.dump() if fact[0] == "member"]


# -- what is counted ---------------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_would_be_and_changes_nothing_but_stamps() -> None:
    world = World()
    ids = {status: world.in_status(status) for status in NAMES.values()}
    before = {status: world.status(id) for status, id in ids.items()}
    world.batch("r1", "pause", Filter(ids=tuple(ids.values()), status=tuple(NAMES.values())), dry_run=True)
    world.tick_until_idle()
    assert {status: world.status(id) for status, id in ids.items()} == before
    may = len(acts_on(Action.PAUSE))
    assert world.counts("r1") == {"matched": len(ids), "applied": may, "not_applicable": len(ids) - may}


def test_a_cancelled_handler_moves_from_signalled_to_ended_when_it_has_ended() -> None:
    world = World()
    obeys, refuses, killed = (world.in_status("running") for _ in range(3))
    world.batch("r1", "cancel", ALL)
    world.tick_until_idle()
    assert world.counts("r1") == {"matched": 3, "signalled": 3}
    assert world.told("r1").state == "completed"
    world.complete(obeys, "cancelled")
    world.complete(refuses, "success")
    world.act("kill", killed)
    world.tick(after=SECOND)
    assert world.counts("r1") == {"matched": 3, "ended": 1, "ended_by_other": 2}
    assert world.told("r1").tally.ended == 1


def test_a_second_cancel_is_counted_as_already_signalled() -> None:
    world = World()
    id = world.in_status("running")
    world.batch("r1", "cancel", ALL)
    world.batch("r2", "cancel", ALL)
    world.tick_until_idle()
    assert world.counts("r2") == {"matched": 1, "already_signalled": 1}
    world.complete(id, "cancelled")
    assert world.counts("r1") == {"matched": 1, "ended": 1}


def test_resume_carries_its_deployment() -> None:
    world = World()
    id = world.in_status("paused")
    world.batch("r1", "resume", ALL, deployment="dp2")
    world.tick_until_idle()
    assert (world.status(id), world.row(id).deployment) == ("ready", "dp2")


def test_ids_of_a_filter_are_looked_up_and_unknown_ones_passed_over() -> None:
    world = World()
    id, spared = world.invoke(), world.invoke()
    world.batch("r1", "kill", Filter(ids=(id, "inv_unknown", id)))
    world.tick_until_idle(single=1)
    assert (world.status(id), world.status(spared)) == ("killed", "ready")
    assert world.counts("r1") == {"matched": 1, "ended": 1}
