"""A request as users see it: the batch of the HTTP API, as data that any JSON encoder writes.

Times are RFC 3339 in UTC with microseconds. Everything is derived from the request and the time of asking,
which only the rate of a running batch and the silence of its partitions depend on.
"""

from typing import Any, Final

import msgspec

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Progress, Submit, Tally
from coordinator.model.times import END_US, to_rfc3339
from coordinator.requests import commands, fold, guards, lifecycle
from coordinator.requests.state import COMPLETED, Partition, Request, queued

WAITING: Final = "waiting"
"""State of a partition that has not answered yet."""
QUEUED: Final = "queued"
"""State of a partition that had no room; the batch is sent to it again."""
STALLED: Final = "stalled"
"""State of a partition that owes progress and has been silent for too long."""

_PPM: Final = 1_000_000
_NOTHING: Final = Tally()


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One partition's share of a batch."""

    partition: int
    state: str
    """As the partition tells it, or `waiting`, `queued` or `stalled`."""
    position: int | None
    """Where on its log the batch came into force."""
    matched: int
    ended: int
    applied: int
    signalled: int
    ended_by_other: int
    already_signalled: int
    not_applicable: int
    failed: int
    propagated: int
    members: int | None
    """Matches that the guard counted; None without a guard."""
    cursor_fraction: float
    """How much of its candidates is decided, 0 to 1; starts over at the commit of a guarded batch."""
    last_heard_at: str | None


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch over all partitions."""

    id: str
    action: str
    filter: dict[str, Any]
    reason: str | None
    principal: str
    dry_run: bool
    state: str
    settled: bool
    submitted_at: str
    finished_at: str | None
    matched: int
    ended: int
    applied: int
    signalled: int
    ended_by_other: int
    already_signalled: int
    not_applicable: int
    failed: int
    propagated: int
    remaining: int | None
    """Matches still to be acted on, where they were counted before; 0 once it is over."""
    rate_per_s: float
    """Matches a second so far."""
    guard: dict[str, int] | None
    rate: int | None
    """Matches a second over the whole batch at most."""
    deployment: str | None
    grace_s: float | None
    """How long after it came into force what it has not ended is killed, in seconds; None for never."""
    awaits_grace: bool
    """There is something left of that."""
    retry_of: str | None
    """The batch of which it does again what has failed."""
    revision: int
    members: int | None
    """Matches that the guard counted over all partitions; None before they are known and without a guard."""
    refusal: str | None
    """Why it was refused, or why a partition did not take part."""
    progress_fraction: float
    """How much of all partitions' candidates is decided, 0 to 1."""
    stalled: tuple[int, ...]
    """The partitions that owe progress and are silent."""
    partitions: tuple[PartitionView, ...]


def view(request: Request, now_us: int) -> BatchView:
    """The request as of `now_us`. It must have been submitted."""
    asked = request.submission
    assert asked is not None, "a request that was only heard of cannot be shown"
    finished = lifecycle.finished_at(request)
    tally = fold.total(request)
    partitions = tuple(_partition(request, number, now_us) for number in range(len(request.partitions)))
    over = finished is not None
    return BatchView(
        id=request.id,
        action=asked.action,
        filter=_filter(asked.filter),
        reason=asked.reason,
        principal=asked.principal,
        dry_run=asked.dry_run,
        state=lifecycle.state(request).value,
        settled=lifecycle.settled(request),
        submitted_at=to_rfc3339(request.submitted_at),
        finished_at=None if finished is None else to_rfc3339(finished),
        **_counts(tally),
        propagated=sum(one.propagated for one in partitions),
        remaining=0 if over else _remaining(request, tally),
        rate_per_s=_rate_per_s(tally.matched, (now_us if finished is None else finished) - request.submitted_at),
        guard=_guard(asked),
        rate=request.rate,
        deployment=asked.deployment,
        grace_s=None if asked.grace is None else asked.grace / limits.SECOND_US,
        awaits_grace=lifecycle.awaits_grace(request),
        retry_of=asked.filter.failed_of,
        revision=request.revision,
        members=guards.members(request) if request.guarded else None,
        refusal=lifecycle.reason(request),
        progress_fraction=_mean([one.cursor_fraction for one in partitions]),
        stalled=tuple(one.partition for one in partitions if one.state == STALLED),
        partitions=partitions,
    )


def _partition(request: Request, number: int, now_us: int) -> PartitionView:
    one = request.partitions[number]
    told = one.newest
    counts = _counts(_NOTHING if told is None else told.tally)
    return PartitionView(
        partition=number,
        state=STALLED if _stalled(request, number, now_us) else _state(one),
        position=None if told is None or queued(told) else told.position,
        **counts,
        propagated=0 if told is None else told.propagated,
        members=None if told is None or not request.guarded else told.members,
        cursor_fraction=_cursor(one, told),
        last_heard_at=None if one.heard_at is None else to_rfc3339(one.heard_at),
    )


def _state(one: Partition) -> str:
    if one.ending is not None:
        return one.ending.state
    if one.newest is None:
        return WAITING
    return QUEUED if queued(one.newest) else one.newest.state


def _stalled(request: Request, number: int, now_us: int) -> bool:
    if not commands.owes(request, number):
        return False
    one = request.partitions[number]
    silent_since = max(one.heard_at or 0, one.owed_since or 0)
    return now_us - silent_since > limits.STALLED_US


def _cursor(one: Partition, told: Progress | None) -> float:
    if one.ending is not None and one.ending.state == COMPLETED:
        return 1.0
    return 0.0 if told is None else told.cursor_ppm / _PPM


def _remaining(request: Request, tally: Tally) -> int | None:
    marked = guards.members(request) if request.guarded else None
    return None if marked is None else max(0, marked - tally.matched)


def _rate_per_s(matched: int, elapsed_us: int) -> float:
    return round(matched * limits.SECOND_US / elapsed_us, 3) if elapsed_us > 0 else 0.0


def _mean(fractions: list[float]) -> float:
    return sum(fractions) / len(fractions) if fractions else 1.0


def _counts(tally: Tally) -> dict[str, Any]:
    return {name: getattr(tally, name) for name in ("matched", *Tally.COUNTED)}


def _filter(filter: Filter) -> dict[str, Any]:
    """The filter in the words and times of the API, without what does not restrict; of a retry that of the first."""
    shown = {name: getattr(filter, name) for name in filter.__struct_fields__ if name != "failed_of"}
    return {
        name: _time(value) if name.startswith(("created_", "modified_")) else value
        for name, value in shown.items()
        if value is not None and value is not False
    }


def _guard(asked: Submit) -> dict[str, int] | None:
    if asked.guard is None:
        return None
    known = {"max": asked.guard.max, "expect": asked.guard.expect}
    return {name: value for name, value in known.items() if value is not None}


def _time(at_us: int) -> str:
    """A time of a filter, clamped to what can be written: the others refuse a submission, which is shown too."""
    return to_rfc3339(min(max(at_us, 0), END_US - 1))
