"""What a partition is to be told, from what is known of the request.

Commands carry the whole desired state, never a change of it, so that any one of them may be lost, repeated or
overtaken: what a partition has not acknowledged is simply sent again.
"""

import msgspec

from coordinator.model.messages import Batch, Command, Commit, Control, Submit
from coordinator.requests import lifecycle
from coordinator.requests.state import RUNNING, Request, queued


def batch(request: Request, number: int) -> Batch:
    """The batch as partition `number` gets it.

    Once the request is stopping, it goes out parked: paused, at revision 0, so that it can override no
    control and touches nothing before the abort beside it is in force.
    """
    asked = _submission(request)
    filter = asked.filter
    if number in asked.untouched:  # it has failed there as a whole
        filter = msgspec.structs.replace(filter, failed_of=None)
    return Batch(
        request=request.id,
        action=asked.action,
        filter=filter,
        not_after=lifecycle.not_after(request),
        guarded=request.guarded,
        dry_run=asked.dry_run,
        deployment=asked.deployment,
        revision=0 if request.stopping else request.revision,
        paused=request.paused or request.stopping,
        rate=share(request),
        reason=asked.reason,
        principal=asked.principal,
        grace=asked.grace,
    )


def control(request: Request) -> Control:
    """What the batch is to be from now on."""
    return Control(
        request=request.id,
        revision=request.revision,
        paused=request.paused,
        rate=share(request),
        aborted=request.stopping,
    )


def commit(request: Request) -> Commit:
    return Commit(request=request.id, not_after=lifecycle.not_after(request))


def share(request: Request) -> int | None:
    """What one partition may match a second, so that all together keep the rate: rounded up, at least 1."""
    if request.rate is None:
        return None
    return max(1, -(-request.rate // len(request.partitions)))


def unanswered(request: Request, number: int) -> tuple[Command, ...]:
    """What partition `number` was told and has not acknowledged, in the order in which to send it."""
    partition = request.partitions[number]
    if partition.ending is not None:
        return ()
    newest = partition.newest
    if newest is None or queued(newest):
        # A control for an unknown id is remembered there: ahead of the batch it is in force from the start.
        asked = batch(request, number)
        return (control(request), asked) if request.stopping else (asked,)
    missing: list[Command] = []
    if newest.revision < request.revision:
        missing.append(control(request))
    if request.committed and newest.committed_at is None and not request.aborted:
        missing.append(commit(request))
    return tuple(missing)


def owes(request: Request, number: int) -> bool:
    """Whether progress of partition `number` is to be expected: an answer, or because it works."""
    if unanswered(request, number):
        return True
    partition = request.partitions[number]
    if partition.ending is not None or partition.newest is None:
        return False
    return partition.newest.state == RUNNING and not request.paused


def _submission(request: Request) -> Submit:
    assert request.submission is not None, "nothing is sent for a request that was not submitted"
    return request.submission
