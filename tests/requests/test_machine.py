"""The life of a request, one scenario a test, among fake partitions."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import (
    Batch,
    Commit,
    Control,
    Decide,
    Guard,
    Lapse,
    Progress,
    RequestControl,
    Submit,
    Tally,
)
from coordinator.requests import lifecycle, machine, submission
from coordinator.requests.state import decode, encode
from coordinator.requests.view import view
from tests.requests.world import SECOND, START, Checked, World, submit


def world(partitions: int = 3, seed: int = 1, **fields: Any) -> World:
    return World(seed, partitions=partitions, asked=submit(**fields))


def marked(world: World) -> int:
    return sum(partition.shares["r1"].members for partition in world.partitions)


def touched(world: World) -> int:
    shares = [partition.shares.get("r1") for partition in world.partitions]
    return sum(share.tally.matched for share in shares if share is not None)


def lapse(core: Checked, at: int) -> None:
    core.step(Lapse(request="r1"), at)


# -- submission ----------------------------------------------------------------------------------------------


def test_a_submission_becomes_one_batch_on_each_partition() -> None:
    core = Checked(3)
    core.step(submit(reason="bad deploy", principal="ann", rate=7, deployment="dp_1", dry_run=True), START)
    batch = Batch(
        request="r1",
        action="cancel",
        filter=Filter(service="Greeter"),
        not_after=START + limits.NOT_AFTER_US,
        dry_run=True,
        deployment="dp_1",
        rate=3,
        reason="bad deploy",
        principal="ann",
    )
    assert core.sends == [(0, batch), (1, batch), (2, batch)]
    assert [told.state for told in core.told] == ["accepted"]


@pytest.mark.parametrize(("rate", "share"), [(None, None), (0, None), (1, 1), (3, 1), (4, 2), (300, 100)])
def test_the_rate_is_shared_out_rounded_up(rate: int | None, share: int | None) -> None:
    core = Checked(3)
    core.step(submit(rate=rate), START)
    assert {send.command.rate for send in core.sends} == {share}


def test_a_guard_prepares_unless_it_is_a_dry_run() -> None:
    for dry_run in (False, True):
        core = Checked(1)
        core.step(submit(guard=Guard(max=5), dry_run=dry_run), START)
        assert core.sends[0].command.guarded is not dry_run


@pytest.mark.parametrize("second", [submit(), submit(action="kill"), submit(filter=Filter(all=True))])
def test_a_second_submission_of_an_id_changes_nothing(second: Submit) -> None:
    core = Checked(2)
    core.step(submit(), START)
    before = core.known
    core.step(second, START + SECOND)
    assert core.known == before
    assert core.sends == []


def test_the_same_body_is_a_repeat_and_another_is_a_conflict() -> None:
    sent = submit(body_digest=b"one", filter=Filter(created_before=100))
    aged = submit(body_digest=b"one", filter=Filter(created_before=200), principal="ann")
    other = submit(body_digest=b"two", filter=Filter(created_before=100))
    assert submission.repeats(sent, aged)
    assert not submission.repeats(sent, other)


def test_without_digests_the_fields_are_compared() -> None:
    assert submission.repeats(submit(), submit(principal="ann"))
    assert submission.repeats(submit(body_digest=b"one"), submit())
    for field in ({"action": "kill"}, {"rate": 3}, {"dry_run": True}, {"guard": Guard(max=1)}, {"reason": "x"}):
        assert not submission.repeats(submit(), submit(**field))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (submit(""), "request_id"),
        (submit("x" * 257), "request_id"),
        (submit(action="explode"), "no action 'explode'"),
        (submit(filter=Filter()), "empty filter"),
        (submit(filter=Filter(created_before=-1)), "filter.created_before"),
        (submit(filter=Filter(modified_after=2**62)), "filter.modified_after"),
        (submit(guard=Guard()), "either max or expect"),
        (submit(guard=Guard(max=1, expect=1)), "either max or expect"),
        (submit(guard=Guard(max=-1)), "negative"),
        (submit(rate=-1), "rate"),
    ],
)
def test_a_submission_that_cannot_be_meant_is_refused_and_no_partition_hears_of_it(asked: Submit, reason: str) -> None:
    core = Checked(3)
    core.step(asked, START)
    assert core.sends == []
    assert (core.state, core.told[-1].settled) == ("refused", True)
    assert reason in (lifecycle.reason(core.known) or "")
    assert lifecycle.finished_at(core.known) == START
    assert machine.due_at(core.known) is None
    shown = view(core.known, START)
    assert (shown.state, shown.partitions, shown.remaining) == ("refused", (), 0)


@pytest.mark.parametrize(
    "event", [RequestControl(request="r1"), Decide(request="r1", commit=True), Lapse(request="r1")]
)
def test_what_is_about_an_unknown_request_leaves_nothing_behind(event: machine.Event) -> None:
    assert machine.step(None, event, START, 3) == (None, ())


def test_a_request_is_stored_as_it_is() -> None:
    run = world(guard=Guard(max=1000))
    run.quiesce()
    assert decode(encode(run.core.known)) == run.core.known


# -- the ordinary life ---------------------------------------------------------------------------------------


def test_it_goes_from_accepted_over_running_to_completed() -> None:
    run = world()
    for partition in run.partitions:
        partition.fails = False
    run.quiesce()
    assert [told.state for told in run.core.told if not told.settled] == ["accepted", "running", "completed"]
    assert run.core.told[-1].tally.matched == touched(run)


def test_a_failed_match_is_not_hidden() -> None:
    run = next(run for run in map(world_that_ended, range(50)) if run.core.told[-1].tally.failed)
    assert run.core.state == "completed-with-failures"


def world_that_ended(seed: int) -> World:
    run = world(seed=seed)
    run.quiesce()
    return run


def test_a_partition_that_refuses_ends_its_share_and_says_why() -> None:
    run = world()
    run.partitions[1].broken = True
    run.quiesce()
    assert run.core.state == "completed-with-failures"
    assert lifecycle.reason(run.core.known) == "partition 1: its filter is not understood here"


def test_it_is_finished_when_the_last_partition_was_not_when_that_was_heard() -> None:
    run = world()
    run.quiesce()
    ends = [next(told.at for told in one.told if told.state == "completed") for one in run.partitions]
    assert lifecycle.finished_at(run.core.known) == max(ends)


def test_it_is_settled_only_when_every_pair_of_partitions_is_even() -> None:
    run = world(seed=5)
    run.mail_held = True
    for partition in run.partitions:
        partition.fails = False
    run.quiesce()
    assert run.core.state == "completed"
    assert not lifecycle.settled(run.core.known)
    run.mail_held = False
    run.quiesce()
    assert run.core.told[-1].settled
    assert run.core.told[-2].state == "completed"
    assert not run.core.told[-2].settled


def test_an_even_sum_over_uneven_pairs_is_not_settled() -> None:
    core = Checked(2)
    core.step(submit(), START)

    def done(number: int, partition: int, sent: dict[int, int], received: dict[int, int]) -> Progress:
        return Progress(
            request="r1", partition=partition, number=number, state="completed", position=0, revision=0,
            at=START, tally=Tally(), sent=sent, received=received,
        )  # fmt: skip

    core.step(done(1, 0, sent={1: 2}, received={1: 2}), START)
    core.step(done(1, 1, sent={0: 1}, received={0: 1}), START)
    assert core.state == "completed"
    assert not lifecycle.settled(core.known)
    core.step(done(2, 0, sent={1: 2}, received={1: 1}), START)
    assert not lifecycle.settled(core.known)
    core.step(done(2, 1, sent={0: 1}, received={0: 2}), START)
    assert core.told[-1].settled


def test_it_is_forgotten_a_week_after_partitions_refuse_it() -> None:
    core = Checked(1)
    core.step(submit(), START)
    assert lifecycle.forget_at(core.known) is None
    run = world()
    run.quiesce()
    expected = run.core.known.submitted_at + limits.NOT_AFTER_US + limits.REMEMBERED_US
    assert lifecycle.forget_at(run.core.known) == expected


# -- controls ------------------------------------------------------------------------------------------------


def test_each_control_raises_the_revision_and_carries_the_whole_desired_state() -> None:
    core = Checked(2)
    core.step(submit(rate=10), START)
    core.step(RequestControl(request="r1", paused=True), START)
    assert core.sends[1] == (1, Control(request="r1", revision=1, paused=True, rate=5))
    core.step(RequestControl(request="r1", rate=20), START)
    assert core.sends[0] == (0, Control(request="r1", revision=2, paused=True, rate=10))
    core.step(RequestControl(request="r1", rate=0, paused=False), START)
    assert core.sends[0] == (0, Control(request="r1", revision=3))
    core.step(RequestControl(request="r1", aborted=True), START)
    core.step(RequestControl(request="r1", paused=False), START)
    assert core.sends[0] == (0, Control(request="r1", revision=5, aborted=True))


def test_it_is_paused_when_every_partition_has_said_so_and_goes_on_when_resumed() -> None:
    run = world()
    run.read_requests()
    run.control(paused=True)
    for partition in (0, 1, 2):
        assert run.core.state == "accepted"
        while run.read_requests() or run.deliver(partition):
            pass
    while run.read_progress():
        pass
    assert run.core.state == "paused"
    run.control(paused=False)
    run.quiesce()
    assert run.core.state in lifecycle.TERMINAL


def test_controls_of_a_request_that_is_over_are_ignored() -> None:
    run = world()
    run.quiesce()
    before = run.core.known
    run.core.step(RequestControl(request="r1", aborted=True), run.now)
    assert run.core.known == before
    assert run.core.sends == []


# -- abort ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_an_abort_ends_as_aborted_unless_everything_was_done_before_it_arrived(seed: int) -> None:
    run = world(seed=seed)
    for partition in run.partitions:
        partition.fails = False
    run.read_requests()
    for _ in range(seed):
        run.once()
    run.control(aborted=True)
    run.quiesce()
    states = {partition.shares["r1"].state for partition in run.partitions}
    assert run.core.state == ("aborted" if "aborted" in states else "completed")


def test_an_abort_reaches_a_partition_that_never_got_the_batch() -> None:
    run = world()
    run.lose = 1.0
    run.read_requests()
    run.control(aborted=True)
    run.read_requests()
    run.lose = 0.0
    run.quiesce()
    assert run.core.state == "aborted"
    assert touched(run) == 0


def test_a_batch_that_is_sent_after_the_abort_can_touch_nothing() -> None:
    core = Checked(1)
    core.step(submit(), START)
    core.step(RequestControl(request="r1", aborted=True), START)
    lapse(core, START + limits.RESEND_US)
    control, batch = (send.command for send in core.sends)
    assert control == Control(request="r1", revision=1, aborted=True)
    assert isinstance(batch, Batch)
    assert (batch.revision, batch.paused) == (0, True)


def test_an_abort_before_the_decision_wins_over_the_decision() -> None:
    run = world(guard=Guard(max=1000))
    run.until("preparing")
    run.control(aborted=True)
    run.append(Decide(request="r1", commit=True))
    run.quiesce()
    assert run.core.state == "aborted"
    assert touched(run) == 0


def test_an_abort_after_the_decision_stops_what_is_not_done() -> None:
    run = world(guard=Guard(max=1000))
    run.until("running")
    run.control(aborted=True)
    run.quiesce()
    assert run.core.state in ("aborted", "completed", "completed-with-failures")
    assert any(isinstance(event, Decide) and event.commit for event, _ in run.requests)


# -- guards --------------------------------------------------------------------------------------------------


def found(seed: int = 1) -> int:
    """How many matches there are in the world of this seed."""
    run = world(seed=seed, guard=Guard(max=1000))
    run.until("preparing")
    while not any(isinstance(event, Decide) for event, _ in run.requests):
        run.once()
    return marked(run)


@pytest.mark.parametrize(
    ("guard", "commits"),
    [
        (lambda n: Guard(max=n), True),
        (lambda n: Guard(max=n - 1), False),
        (lambda n: Guard(expect=n), True),
        (lambda n: Guard(expect=n - 1), False),
        (lambda n: Guard(expect=n + 1), False),
    ],
)
def test_a_guard_lets_through_or_refuses_what_was_counted(guard, commits) -> None:
    count = found()
    assert count > 1
    run = world(guard=guard(count))
    run.quiesce()
    assert marked(run) == count
    assert touched(run) == (count if commits else 0)
    assert (run.core.state == "refused") is not commits
    if not commits:
        reason = lifecycle.reason(run.core.known) or ""
        assert f"and {count} were found" in reason
        assert run.core.told[-1].reason == reason


def test_nothing_is_touched_before_the_decision_is_on_the_log() -> None:
    run = world(guard=Guard(max=1000))
    run.read_requests()
    while not any(isinstance(event, Decide) for event, _ in run.requests):
        assert run.once()
    assert touched(run) == 0
    assert run.core.state == "preparing"
    run.read_requests()
    assert {type(send.command) for send in run.core.sends} == {Commit}
    assert run.core.state == "running"


def test_the_first_decision_counts() -> None:
    run = world(guard=Guard(max=1000))
    run.until("preparing")
    run.append(Decide(request="r1", commit=False, reason="somebody else was first"))
    run.quiesce()
    assert run.core.state == "refused"
    assert touched(run) == 0
    assert lifecycle.reason(run.core.known) == "somebody else was first"


def test_a_decision_on_a_request_without_a_guard_is_ignored() -> None:
    core = Checked(1)
    core.step(submit(), START)
    before = core.known
    core.step(Decide(request="r1", commit=False), START)
    assert core.known == before


def test_a_guarded_request_is_refused_when_a_partition_does_not_take_it() -> None:
    run = world(guard=Guard(max=1000))
    run.partitions[2].broken = True
    run.quiesce()
    assert run.core.state == "refused"
    assert touched(run) == 0
    assert "partition 2 did not take it" in (lifecycle.reason(run.core.known) or "")


def test_an_undecided_request_is_given_up_after_ten_minutes() -> None:
    run = world(guard=Guard(max=1000))
    run.gone.add(1)
    run.read_requests()
    while run.core.state != "refused":
        if not run.once():
            run.now = max(run.now, machine.due_at(run.core.known) or 0)
    assert lifecycle.reason(run.core.known) == "not all partitions answered within ten minutes"
    assert run.now - run.core.known.submitted_at >= limits.PREPARED_US
    assert lifecycle.finished_at(run.core.known) is None
    run.gone.clear()
    run.quiesce()
    assert lifecycle.ended(run.core.known)
    assert touched(run) == 0


def test_a_decision_that_is_lost_is_asked_for_again() -> None:
    run = world(guard=Guard(max=1000))
    run.read_requests()
    while not any(isinstance(event, Decide) for event, _ in run.requests):
        run.once()
    run.requests.pop()
    run.quiesce()
    assert run.core.state in ("completed", "completed-with-failures")
    assert touched(run) == marked(run)


# -- sending again -------------------------------------------------------------------------------------------


def test_what_is_not_answered_is_sent_again_with_growing_pauses() -> None:
    core = Checked(2)
    core.step(submit(), START)
    times = []
    for _ in range(7):
        due = machine.due_at(core.known)
        assert due is not None
        lapse(core, due - 1)
        assert core.sends == []
        lapse(core, due)
        assert [send.partition for send in core.sends] == [0, 1]
        times.append(due)
    pauses = [(later - earlier) // SECOND for earlier, later in zip([START, *times], times, strict=False)]
    assert pauses == [5, 10, 20, 40, 80, 80, 80]


def test_a_control_that_is_lost_is_sent_again_and_nothing_else() -> None:
    run = world(partitions=1)
    run.read_requests()
    run.deliver(0)
    run.read_progress()
    assert machine.due_at(run.core.known) is None
    run.core.step(RequestControl(request="r1", paused=True), run.now)
    lapse(run.core, run.now + limits.RESEND_US)
    assert run.core.sends == [(0, Control(request="r1", revision=1, paused=True))]


def test_a_commit_that_is_lost_is_sent_again() -> None:
    run = world(guard=Guard(max=1000))
    run.until("preparing")
    while not any(isinstance(event, Decide) for event, _ in run.requests):
        run.once()
    run.lose = 1.0
    run.read_requests()
    run.lose = 0.0
    run.quiesce()
    assert touched(run) == marked(run) > 0


def test_a_full_partition_is_queued_and_takes_it_later() -> None:
    run = world()
    run.partitions[0].full = 3
    for partition in run.partitions:
        partition.fails = False
    run.read_requests()
    while run.deliver(0) or run.read_progress():
        pass
    assert run.core.state == "accepted"
    assert view(run.core.known, run.now).partitions[0].state == "queued"
    run.quiesce()
    assert run.core.state == "completed"
    assert run.now - START >= 3 * limits.RESEND_US


def test_a_partition_that_is_away_stalls_is_sent_to_again_and_ends_when_it_is_back() -> None:
    run = world()
    run.gone.add(1)
    run.read_requests()
    while run.now < START + 60 * SECOND:
        if not run.once():
            run.now += SECOND
    shown = view(run.core.known, run.now)
    assert shown.stalled == (1,)
    assert [one.state for one in shown.partitions] == ["completed", "stalled", "completed"]
    assert shown.finished_at is None
    assert len(run.inbox[1]) > 2
    run.gone.clear()
    run.quiesce()
    shown = view(run.core.known, run.now)
    assert (shown.stalled, shown.partitions[1].state) == ((), "completed")


def test_a_partition_that_comes_back_after_not_after_ends_it_without_having_touched_anything() -> None:
    run = world()
    run.lose = 1.0
    run.read_requests()
    run.lose = 0.0
    run.now += limits.NOT_AFTER_US + SECOND
    run.quiesce()
    assert run.core.state == "completed-with-failures"
    assert touched(run) == 0


def test_progress_that_is_read_before_its_submission_is_kept_for_it() -> None:
    run = world(partitions=1)
    run.quiesce()
    core = Checked(1)
    for told, at in run.progress:
        core.step(told, at)
        assert core.known.submission is None
        assert machine.due_at(core.known) is None
    assert lifecycle.forget_at(core.known) is not None
    core.step(*run.requests[0])
    assert core.sends == []
    assert core.state == run.core.state
