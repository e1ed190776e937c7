"""Retrying what of a batch has failed, and what a coordinator makes of graces."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model.errors import ConflictError
from coordinator.model.filters import Filter
from coordinator.model.messages import Control, Decide, Guard, Progress, RequestControl, Submit, Tally
from coordinator.requests import lifecycle, retries, submission
from coordinator.requests.view import view
from tests.requests.world import SECOND, START, Checked, submit


def progress(partition: int, number: int, state: str = "completed", **fields: Any) -> Progress:
    given = {"position": 5, "revision": 0, "at": START, "tally": Tally(), **fields}
    return Progress(request="r1", partition=partition, number=number, state=state, **given)


def over(*told: Progress, **fields: Any) -> Checked:
    """A request that these have ended."""
    core = Checked(len(told))
    core.step(submit(**fields), START)
    for one in told:
        core.step(one, START)
    return core


FAILED = {"tally": Tally(matched=3, applied=2, failed=1)}
REFUSED = {"state": "refused", "reason": "it came after its not_after"}


def test_a_retry_means_what_failed_and_all_where_a_partition_took_no_part() -> None:
    core = over(
        progress(0, 1, **FAILED), progress(1, 1, **REFUSED), progress(2, 1),
        action="cancel", reason="why", rate=9, grace=SECOND,
    )  # fmt: skip
    again = retries.submission(core.known)
    failed = Filter(service="Greeter", failed_of="r1")
    assert again == Submit(
        request="r1.retry-1", action="cancel", filter=failed, reason="why", rate=9, grace=SECOND, untouched=(1,)
    )
    core = Checked(3)
    core.step(again, START)
    assert [send.command.filter for send in core.sends] == [failed, Filter(service="Greeter"), failed]
    assert view(core.known, START).retry_of == "r1"


def test_the_guard_is_not_carried_over() -> None:
    core = over(progress(0, 1, "prepared", members=3), guard=Guard(expect=3))
    core.step(Decide(request="r1", commit=True), START)
    core.step(progress(0, 2, committed_at=6, members=3, **FAILED), START)
    assert retries.submission(core.known).guard is None


def test_asked_for_twice_it_is_the_same_one() -> None:
    known = over(progress(0, 1, **FAILED)).known
    assert submission.repeats(retries.submission(known), retries.submission(known))


@pytest.mark.parametrize(
    ("id", "again"), [("r", "r.retry-1"), ("r.retry-1", "r.retry-2"), ("r.retry-x", "r.retry-x.retry-1")]
)
def test_a_retry_of_a_retry_is_the_next_one(id: str, again: str) -> None:
    core = Checked(1)
    core.step(submit(id), START)
    core.step(
        Progress(request=id, partition=0, number=1, state="completed", position=1, revision=0, at=START, **FAILED),
        START,
    )
    assert retries.submission(core.known).request == again


@pytest.mark.parametrize(
    ("core", "says"),
    [
        (over(progress(0, 1)), "nothing of batch r1 has failed"),
        (over(progress(0, 1, "running", **FAILED)), "is running; retry it when it is over"),
        (over(progress(0, 1, **FAILED), dry_run=True), "has touched nothing"),
        (over(action="explode"), "has touched nothing"),
        (over(progress(0, 1, **REFUSED), filter=Filter(failed_of="r0")), "submit r0 anew"),
    ],
)  # fmt: skip
def test_what_cannot_be_retried_is_a_conflict(core: Checked, says: str) -> None:
    with pytest.raises(ConflictError, match=says):
        retries.submission(core.known)


def test_what_a_retry_was_not_taken_for_once_more_is_retried_as_a_whole() -> None:
    core = over(progress(0, 1, **REFUSED), filter=Filter(service="Greeter", failed_of="r0"), untouched=(0,))
    assert retries.submission(core.known).untouched == (0,)


def test_an_id_that_would_grow_too_long_is_a_conflict() -> None:
    id = "x" * 256
    core = Checked(1)
    core.step(submit(id), START)
    core.step(
        Progress(request=id, partition=0, number=1, state="completed", position=1, revision=0, at=START, **FAILED),
        START,
    )
    with pytest.raises(ConflictError, match="would have more than 256"):
        retries.submission(core.known)


# -- graces --------------------------------------------------------------------------------------------------

ASKED = {"tally": Tally(matched=1, signalled=1), "awaits_grace": True}


def test_it_is_completed_and_not_settled_while_its_grace_is_awaited() -> None:
    core = over(progress(0, 1, **ASKED), progress(1, 1), grace=SECOND)
    assert (core.state, lifecycle.settled(core.known)) == ("completed", False)
    shown = view(core.known, START)
    assert (shown.grace_s, shown.awaits_grace) == (1.0, True)
    core.step(progress(0, 2, tally=Tally(matched=1, ended=1)), START + SECOND)
    assert (core.told[-1].state, core.told[-1].settled) == ("completed", True)


def test_an_abort_goes_to_where_the_grace_is_awaited_and_leaves_it_completed() -> None:
    core = over(progress(0, 1, **ASKED), progress(1, 1), grace=SECOND)
    core.step(RequestControl(request="r1", aborted=True), START)
    assert [(send.partition, send.command) for send in core.sends] == [
        (0, Control(request="r1", revision=1, aborted=True))
    ]
    core.step(progress(0, 2, tally=Tally(matched=1, signalled=1), revision=1), START)
    assert (core.state, lifecycle.settled(core.known)) == ("completed", True)


def test_nothing_else_is_changed_of_one_that_is_over() -> None:
    core = over(progress(0, 1, **ASKED), grace=SECOND)
    core.step(RequestControl(request="r1", paused=True), START)
    assert core.sends == []
    core.step(progress(0, 2, tally=Tally(matched=1, ended=1)), START)
    core.step(RequestControl(request="r1", aborted=True), START)
    assert core.sends == []


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (submit(action="kill", grace=1), "only a cancel has a grace"),
        (submit(grace=8 * 86_400 * SECOND), "seven days"),
        (submit(filter=Filter(killed_by="")), "filter.killed_by"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: Submit, reason: str) -> None:
    core = Checked(1)
    core.step(asked, START)
    assert reason in (lifecycle.reason(core.known) or "")
