"""The decision on a guarded request, once its partitions have counted.

It is asked for as a record and holds when it comes back off the log, the first one wins: so it is durable
before the first commit is sent, and two coordinators cannot decide differently.
"""

from coordinator.model import limits
from coordinator.model.messages import Decide, Guard
from coordinator.requests.state import PREPARED, REFUSED, Request


def members(request: Request) -> int | None:
    """How many matches are marked over all partitions; None while one of them has not finished counting."""
    marked = 0
    for partition in request.partitions:
        told = partition.newest
        if told is None or (told.state != PREPARED and told.committed_at is None):
            return None
        marked += told.members
    return marked


def verdict(request: Request) -> Decide | None:
    """The decision that the counts call for; None while it is too early or no longer needed."""
    if not request.undecided:
        return None
    for number, partition in enumerate(request.partitions):
        if partition.ending is not None and partition.ending.state == REFUSED:
            why = partition.ending.reason or "without a reason"
            return _refuse(request, f"partition {number} did not take it: {why}")
    marked = members(request)
    if marked is None:
        return None
    objection = _objection(_guard(request), marked)
    return Decide(request=request.id, commit=True) if objection is None else _refuse(request, objection)


def overdue(request: Request) -> Decide:
    """The decision on a request that is still undecided when its time is over."""
    if members(request) is None:
        return _refuse(request, "not all partitions answered within ten minutes")
    return _refuse(request, "it could not be decided within ten minutes")


def deadline(request: Request) -> int:
    """When it is given up if undecided, microseconds."""
    return request.submitted_at + limits.PREPARED_US


def _objection(guard: Guard, marked: int) -> str | None:
    if guard.expect is not None and marked != guard.expect:
        return f"{guard.expect} matches were expected and {marked} were found"
    if guard.max is not None and marked > guard.max:
        return f"at most {guard.max} matches were allowed and {marked} were found"
    return None


def _refuse(request: Request, reason: str) -> Decide:
    return Decide(request=request.id, commit=False, reason=reason)


def _guard(request: Request) -> Guard:
    assert request.submission is not None
    assert request.submission.guard is not None
    return request.submission.guard
