"""The visible state of a request, derived from what is known of it, never stored.

`RULES` is read from the top; the first that holds names the state. `FOLLOWS` says which state may come after
which, in whatever order the facts arrive; the machine holds every step against it, so a terminal state
is never left.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from coordinator.model import limits
from coordinator.requests.state import ABORTED, REFUSED, Request, queued


class State(StrEnum):
    """What users see of a request."""

    ACCEPTED = "accepted"
    """No partition has taken it yet."""
    PREPARING = "preparing"
    """Guarded: partitions count, nothing is touched before the decision."""
    REFUSED = "refused"
    """By its guard, for lack of answers, or on sight. Nothing was touched."""
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed-with-failures"
    """Over, but some matches failed or a partition did not take part."""
    ABORTED = "aborted"


def ended(request: Request) -> bool:
    """Whether every partition is done with it: it changes no more but for what was asked to end.

    A request without a decision has not ended whatever partitions say: they end a guarded batch only because
    of one, which then stands on a part of the log that was not read yet.
    """
    return (
        request.submission is not None
        and not request.undecided
        and all(partition.ending is not None for partition in request.partitions)
    )


def taken(request: Request) -> bool:
    """Whether any partition has the batch: answered, and not only that it is full."""
    return any(partition.newest is not None and not queued(partition.newest) for partition in request.partitions)


def _paused(request: Request) -> bool:
    """It is to be, and every partition where it is not over has acknowledged that."""
    return request.paused and all(
        partition.ending is not None or (partition.newest is not None and partition.newest.revision >= request.revision)
        for partition in request.partitions
    )


def _any_aborted(request: Request) -> bool:
    """A partition is aborted only by order; where all had finished before the order came, it is completed."""
    return any(one.ending is not None and one.ending.state == ABORTED for one in request.partitions)


def _any_failed(request: Request) -> bool:
    return any(
        one.ending is not None and (one.ending.failed > 0 or one.ending.state == REFUSED) for one in request.partitions
    )


RULES: Final[tuple[tuple[State, Callable[[Request], bool]], ...]] = (
    (State.REFUSED, lambda request: request.refused),
    (State.ABORTED, lambda request: ended(request) and _any_aborted(request)),
    (State.COMPLETED_WITH_FAILURES, lambda request: ended(request) and _any_failed(request)),
    (State.COMPLETED, ended),
    (State.ACCEPTED, lambda request: not taken(request)),
    (State.PAUSED, _paused),
    (State.PREPARING, lambda request: request.guarded and request.decision is None),
    (State.RUNNING, lambda request: True),
)

TERMINAL: Final = frozenset({State.REFUSED, State.ABORTED, State.COMPLETED_WITH_FAILURES, State.COMPLETED})

_ENDS: Final = TERMINAL - {State.REFUSED}
FOLLOWS: Final[dict[State, frozenset[State]]] = {
    State.ACCEPTED: frozenset({State.PREPARING, State.RUNNING, State.PAUSED, *TERMINAL}),
    State.PREPARING: frozenset({State.RUNNING, State.PAUSED, *TERMINAL}),
    State.PAUSED: frozenset({State.PREPARING, State.RUNNING, *TERMINAL}),
    State.RUNNING: frozenset({State.PAUSED, *_ENDS}),
    **{state: frozenset[State]() for state in TERMINAL},
}


def state(request: Request) -> State:
    """The state that users see."""
    return next(name for name, holds in RULES if holds(request))


def finished_at(request: Request) -> int | None:
    """When the last partition was done with it by its own log, microseconds; None before.

    The time at which a partition ended it, not at which that was heard: it is the same in whatever order
    the partitions' progress arrives.
    """
    if not ended(request):
        return None
    ends = [partition.ending.at for partition in request.partitions if partition.ending is not None]
    return max(ends, default=request.submitted_at)


def awaits_grace(request: Request) -> bool:
    """Whether there is something left that it has asked to end, and that is killed when its grace is over."""
    return any(partition.awaits_grace for partition in request.partitions)


def settled(request: Request) -> bool:
    """Whether it has ended, its grace has, and all that was sent between partitions has arrived, pair by pair.

    A sum over all pairs could be even by chance while one message is under way and another came twice.
    """
    if not ended(request) or awaits_grace(request):
        return False
    told = [partition.newest for partition in request.partitions]
    sent = {
        (source, to): count
        for source, one in enumerate(told)
        if one is not None
        for to, count in one.sent.items()
        if count
    }
    received = {
        (source, to): count
        for to, one in enumerate(told)
        if one is not None
        for source, count in one.received.items()
        if count
    }
    return sent == received


def reason(request: Request) -> str | None:
    """Why it was refused, or why a partition did not take part; None where neither is so."""
    if request.refused and request.decision is not None:
        return request.decision.reason
    refusals = (
        f"partition {number}: {one.ending.reason}"
        for number, one in enumerate(request.partitions)
        if one.ending is not None and one.ending.state == REFUSED
    )
    return next(refusals, None)


def not_after(request: Request) -> int:
    """The append time after which partitions refuse it, microseconds."""
    return request.submitted_at + limits.NOT_AFTER_US


def forget_at(request: Request) -> int | None:
    """When it need not be remembered any longer, microseconds; None while it has not ended.

    Partitions forget ids at the same time. What was heard of a request whose submission never came is kept
    as long as if it had been submitted when it was last heard.
    """
    if request.submission is None:
        heard = max((one.heard_at for one in request.partitions if one.heard_at is not None), default=0)
        return heard + limits.NOT_AFTER_US + limits.REMEMBERED_US
    return not_after(request) + limits.REMEMBERED_US if ended(request) else None


def forgettable(request: Request | None, at_us: int) -> bool:
    """Whether a lapse of it that is appended at `at_us` lets it be forgotten."""
    forgotten_at = None if request is None else forget_at(request)
    return forgotten_at is not None and forgotten_at <= at_us
