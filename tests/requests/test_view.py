"""What users see of a request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Guard, Lapse, Progress, RequestControl, Tally
from coordinator.model.times import to_rfc3339
from coordinator.requests.view import BatchView, PartitionView, view
from tests.requests.world import SECOND, START, Checked, World, submit

CONTRACT = {
    *("id", "action", "filter", "reason", "principal", "dry_run", "state", "settled", "submitted_at", "finished_at"),
    *("matched", "ended", "applied", "signalled", "ended_by_other", "already_signalled", "not_applicable", "failed"),
    *("propagated", "remaining", "rate_per_s", "partitions"),
}


def progress(number: int, *, partition: int = 0, state: str = "running", **fields: Any) -> Progress:
    given: dict[str, Any] = {"position": 5, "revision": 0, "at": START, "tally": Tally(), **fields}
    return Progress(request="r1", partition=partition, number=number, state=state, **given)


def running(partitions: int = 1, **fields: Any) -> Checked:
    core = Checked(partitions)
    core.step(submit(**fields), START)
    return core


def test_it_has_the_fields_of_the_contract_and_is_plain_json() -> None:
    run = World(3, partitions=2, asked=submit(guard=Guard(max=100)))
    run.quiesce()
    shown = json.loads(msgspec.json.encode(view(run.core.known, run.now)))
    assert CONTRACT - set(shown) == set()
    counters = (*Tally.COUNTED, "partition", "state", "position", "matched", "cursor_fraction", "last_heard_at")
    assert [name for name in counters if name not in shown["partitions"][0]] == []
    assert len(shown["partitions"]) == 2


def test_the_filter_is_shown_in_the_words_of_the_api() -> None:
    asked = Filter(service="Greeter", status=("running",), created_before=1_790_000_000_000_001, key="")
    core = running(filter=asked)
    assert view(core.known, START).filter == {
        "service": "Greeter",
        "key": "",
        "status": ("running",),
        "created_before": "2026-09-21T14:13:20.000001Z",
    }
    assert view(running(filter=Filter(all=True)).known, START).filter == {"all": True}


def test_the_rate_is_what_was_matched_a_second_until_now_and_then_until_the_end() -> None:
    core = running()
    assert view(core.known, START).rate_per_s == 0.0
    tally = Tally(matched=30, ended=30)
    core.step(progress(1, tally=tally), START)
    assert view(core.known, START + 10 * SECOND).rate_per_s == 3.0
    core.step(progress(2, tally=tally, state="completed", at=START + 20 * SECOND), START + 99 * SECOND)
    shown = view(core.known, START + 1000 * SECOND)
    assert (shown.rate_per_s, shown.finished_at) == (1.5, to_rfc3339(START + 20 * SECOND))


def test_what_remains_is_stated_only_where_a_count_is_known() -> None:
    core = running()
    core.step(progress(1, tally=Tally(matched=1, ended=1)), START)
    assert view(core.known, START).remaining is None
    core.step(progress(2, state="completed", tally=Tally(matched=1, ended=1)), START)
    assert view(core.known, START).remaining == 0


def test_what_remains_of_a_guarded_one_is_known_from_the_end_of_its_preparation() -> None:
    core = running(2, guard=Guard(max=100))
    core.step(progress(1, members=3), START)
    core.step(progress(1, partition=1, state="prepared", members=4), START)
    assert view(core.known, START).remaining is None
    core.step(progress(2, state="prepared", members=5), START)
    shown = view(core.known, START)
    assert (shown.remaining, shown.members) == (9, 9)
    core.step(core.asks[0], START)
    core.step(progress(3, members=5, committed_at=9, tally=Tally(matched=2, ended=2)), START)
    assert view(core.known, START).remaining == 7


def partition(core: Checked, after_s: float) -> PartitionView:
    return view(core.known, START + int(after_s * SECOND)).partitions[0]


def test_a_partition_that_never_answered_stalls() -> None:
    core = running()
    assert partition(core, 10).state == "waiting"
    assert partition(core, 10.1).state == "stalled"


def test_sending_again_does_not_make_a_silent_partition_look_heard() -> None:
    core = running()
    core.step(RequestControl(request="r1", rate=3), START + 5 * SECOND)
    core.step(Lapse(request="r1"), START + 9 * SECOND)
    assert partition(core, 10.1).state == "stalled"


def test_a_running_partition_stalls_when_it_says_nothing_more() -> None:
    core = running()
    core.step(progress(1), START + 3 * SECOND)
    assert partition(core, 13).state == "running"
    assert partition(core, 13.1).state == "stalled"
    core.step(progress(2), START + 20 * SECOND)
    assert partition(core, 21).state == "running"


@pytest.mark.parametrize("state", ["completed", "aborted", "refused"])
def test_a_partition_that_is_done_owes_nothing(state: str) -> None:
    core = running()
    core.step(progress(1, state=state), START)
    assert partition(core, 1e6).state == state


def test_a_paused_partition_owes_nothing_once_it_has_acknowledged() -> None:
    core = running()
    core.step(RequestControl(request="r1", paused=True), START)
    core.step(progress(1), START)
    assert partition(core, 11).state == "stalled"
    core.step(progress(2, state="paused", revision=1), START)
    assert partition(core, 1000).state == "paused"
    core.step(RequestControl(request="r1", paused=False), START + 1000 * SECOND)
    assert partition(core, 1010).state == "paused"
    assert partition(core, 1011).state == "stalled"


def test_a_prepared_partition_owes_nothing_until_the_decision() -> None:
    core = running(guard=Guard(max=9))
    core.step(progress(1, state="prepared", members=3), START)
    assert partition(core, 500).state == "prepared"
    core.step(core.asks[0], START + 500 * SECOND)
    assert partition(core, 510).state == "prepared"
    assert partition(core, 511).state == "stalled"


def test_fractions_are_between_none_and_all_of_the_candidates() -> None:
    core = running(2)
    assert view(core.known, START).progress_fraction == 0.0
    core.step(progress(1, cursor_ppm=500_000), START)
    assert view(core.known, START).progress_fraction == 0.25
    core.step(progress(2, state="completed", cursor_ppm=0), START)
    core.step(progress(1, partition=1, state="completed", cursor_ppm=1_000_000), START)
    assert view(core.known, START).progress_fraction == 1.0


def test_when_it_was_last_heard_is_when_that_came() -> None:
    core = running()
    assert partition(core, 1).last_heard_at is None
    core.step(progress(1, at=START), START + SECOND)
    assert partition(core, 1).last_heard_at == to_rfc3339(START + SECOND)


def test_counts_are_the_sum_over_the_partitions() -> None:
    run = World(8, partitions=4, asked=submit())
    run.quiesce()
    shown: BatchView = view(run.core.known, run.now)
    for name in ("matched", *Tally.COUNTED, "propagated"):
        assert getattr(shown, name) == sum(getattr(one, name) for one in shown.partitions)
    assert limits.STALLED_US > limits.RESEND_US  # else what was just sent again would be shown as silence
