"""Batches on one partition: taking them in force, controlling them, telling their progress.

Taking one in force is O(1): its state is stored, nothing is scanned. It stays on the pending list until its
scan has ended or it is aborted; how rows meet it meanwhile is `catchup`, how ticks work it off `scans`.
"""

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from coordinator.model import filters, limits, messages
from coordinator.model.errors import CallerError, CorruptionError
from coordinator.model.statuses import ACTIONS, Action
from coordinator.partition import graces, outbox
from coordinator.partition.outputs import Answer
from coordinator.partition.pending import Pending
from coordinator.partition.state import PROGRESS, BatchState, Phase
from coordinator.stores.port import Candidates, Scan, Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_OVER = (Phase.COMPLETED, Phase.ABORTED, Phase.REFUSED)
_BAD_REQUEST_ID = f"a request id has 1 to {limits.NAME_CHARS_MAX} characters"
_PHASE_SHOWN = {
    Phase.PREPARED: "prepared",
    Phase.COMPLETED: "completed",
    Phase.ABORTED: "aborted",
    Phase.REFUSED: "refused",
}


def known(m: "Machine", request: str) -> BatchState:
    """What the partition knows of a request, noting it as announced when that is nothing yet."""
    batch = m.batches.get(request)
    if batch is None:
        if not 0 < len(request) <= limits.NAME_CHARS_MAX:
            raise CallerError(_BAD_REQUEST_ID)
        batch = BatchState(request=request, position=m.position, at=m.now, phase=Phase.ANNOUNCED)
        m.batches[request] = batch
        m.index_batch(batch)
    m.changed_batches[batch.position] = batch
    return batch


def batch(m: "Machine", c: messages.Batch) -> Answer:
    """Take a batch in force at this position; the first position of a request id wins."""
    before = m.batches.get(c.request)
    if before is not None and before.phase is not Phase.ANNOUNCED:
        if c.not_after != before.not_after:  # a request has one; so this is another under the same id
            return _refuse(m, c, "its request id was used before and is still remembered; submit it under another")
        tell(m, before)
        return Answer(m.position, 200, c.request)
    refusal = _refusal(m, c, needs_room=before is None or not before.aborted)
    if refusal is not None:
        return _refuse(m, c, refusal)
    state = BatchState(
        request=c.request,
        position=m.position,
        at=m.now,
        phase=Phase.PENDING,
        action=c.action,
        filter=_resolved(m, filters.with_statuses_of(c.filter, Action(c.action))),
        not_after=c.not_after,
        guarded=c.guarded,
        dry_run=c.dry_run,
        deployment=c.deployment,
        revision=c.revision,
        paused=c.paused,
        rate=c.rate,
        rate_since=m.now,
        below=m.state.next_seq,
        reason=c.reason,
        grace=c.grace if not c.dry_run else None,
    )
    state.scan = scan_of(state.filter)
    if before is not None:
        state.sent, state.received = before.sent, before.received
        state.propagated, state.work_open = before.propagated, before.work_open
        if before.revision > c.revision:
            state.revision, state.paused, state.rate = before.revision, before.paused, before.rate
        state.aborted = before.aborted
        state.announced_at = before.position
        m.store.batch_remove(before.position)
        m.changed_batches.pop(before.position, None)
        m.by_position.pop(before.position, None)
        m.owing.pop(before.position, None)
        del m.batches[c.request]  # so that the order of the dict stays that of the positions
    m.batches[c.request] = state
    m.index_batch(state)
    if state.aborted:
        state.phase = Phase.ABORTED
    else:
        _put_in_force(m, state)
    tell(m, state)
    return Answer(m.position, 202, c.request)


def _refusal(m: "Machine", c: messages.Batch, *, needs_room: bool) -> str | None:
    if m.now > c.not_after:
        return "it came after its not_after; submit it again under a new request id"
    if c.action not in ACTIONS:
        return f"action {c.action!r} is none of {', '.join(ACTIONS)}"
    if not 0 < len(c.request) <= limits.NAME_CHARS_MAX:
        return _BAD_REQUEST_ID
    if c.grace is not None and (c.action != Action.CANCEL or c.grace > limits.GRACE_MAX_US):
        return "only a cancel has a grace, of seven days at most"
    try:
        filters.check(c.filter)
    except CallerError as error:
        return str(error)
    if needs_room and len(m.pending) + len(m.prepared) >= limits.PENDING_BATCHES_MAX:
        return messages.FULL
    return None


def _refuse(m: "Machine", c: messages.Batch, reason: str) -> Answer:
    """Tell it and remember nothing: the coordinator may send it again, a full partition may have room then."""
    state = BatchState(
        request=c.request[: limits.NAME_CHARS_MAX], position=m.position, at=m.now, phase=Phase.REFUSED, reason=reason
    )
    tell(m, state)
    m.changed_batches.pop(m.position, None)
    return Answer(m.position, 409, c.request, detail=reason)


def _resolved(m: "Machine", filter: filters.Filter) -> filters.Resolved:
    """The filter with the batches that it names as this partition knows them now."""
    resolved = filters.Resolved(**{name: getattr(filter, name) for name in filter.__struct_fields__})
    if filter.killed_by is not None:
        by = m.batches.get(filter.killed_by)
        resolved = msgspec.structs.replace(resolved, killed_at=() if by is None else by.positions)
    if filter.failed_of is not None:
        of = m.batches.get(filter.failed_of)
        over = of is not None and of.phase not in (Phase.ANNOUNCED, Phase.PENDING, Phase.PREPARED)
        resolved = msgspec.structs.replace(resolved, failed_at=of.in_force if of is not None and over else -1)
    return resolved


def scan_of(filter: filters.Resolved) -> Scan:
    """The narrowest candidates that nothing which changes later can give."""
    if filter.ids is not None:
        return Scan(Candidates.IDS)
    if filter.failed_at is not None:
        return Scan(Candidates.MEMBERS, members_of=filter.failed_at)
    service, key = filter.service, filter.key
    if filter.target is not None:
        named, second, handler = filters.target_parts(filter.target)
        service = service or named
        if handler is not None and named == service:
            key = second
    if service is None:
        return Scan(Candidates.ALL)
    if key is not None:
        return Scan(Candidates.KEY, service=service, key=key)
    return Scan(Candidates.SERVICE, service=service)


def _put_in_force(m: "Machine", state: BatchState) -> None:
    m.pending.append(Pending(state, m.store))
    m.newest_pending = state.in_force
    m.changed_batches[state.position] = state
    if state.grace is not None:
        m.graces[state.position] = state


def take_off(m: "Machine", state: BatchState) -> None:
    """It is pending no longer."""
    m.pending = [pending for pending in m.pending if pending.state is not state]
    m.newest_pending = m.pending[-1].position if m.pending else -1


def leave(m: "Machine", state: BatchState, phase: Phase) -> None:
    """Take it off the pending list: its scan has ended or it was aborted."""
    take_off(m, state)
    m.prepared.discard(state.position)
    state.phase = phase
    m.note(state)
    if m.todo:  # what its last rows have led to may be among that
        m.to_settle.append(state)
    else:
        settle(m, state)


def settle(m: "Machine", state: BatchState) -> None:
    """When the work on its account is done too, it is over, and that is told at once."""
    if state.work_open or state.phase not in (Phase.SCANNED, Phase.ABORTING):
        return
    if state.phase is Phase.SCANNED and state.marks and not state.dry_run:
        state.phase = Phase.PREPARED
        m.prepared.add(state.position)
    else:
        state.phase = Phase.COMPLETED if state.phase is Phase.SCANNED else Phase.ABORTED
        _forget_members(m, state)
    tell(m, state)


def _forget_members(m: "Machine", state: BatchState) -> None:
    if state.members:
        m.todo.append(Work(0, WorkKind.DROP_MEMBERS, cursor=str(state.position)))


def control(m: "Machine", c: messages.Control) -> Answer:
    """What a batch is to be from now on; remembered even where the batch is not known yet."""
    state = known(m, c.request)
    if c.revision <= state.revision:
        tell(m, state)
        return Answer(m.position, 200, c.request)
    state.revision = c.revision
    if c.rate != state.rate or state.paused:  # what a pause has left unused does not come on top later
        state.rate, state.rate_since, state.rate_from = c.rate, m.now, state.tally.matched + state.members
    state.paused = c.paused
    if c.aborted and not state.aborted:
        state.aborted = True
        if state.phase in (Phase.PENDING, Phase.PREPARED):
            leave(m, state, Phase.ABORTING)
        graces.call_off(m, state)
    tell(m, state)
    return Answer(m.position, 200, c.request)


def commit(m: "Machine", c: messages.Commit) -> Answer:
    """Act on a guarded batch's members, in the state that they are in at this position."""
    state = m.batches.get(c.request)
    if state is None or state.phase is not Phase.PREPARED:
        if state is not None:
            tell(m, state)
        return Answer(m.position, 409, c.request, detail="it is not prepared")
    if m.now > c.not_after:
        leave(m, state, Phase.ABORTING)  # so that its request ends
        return Answer(m.position, 409, c.request, detail="its commit came after its not_after")
    m.prepared.discard(state.position)
    state.phase = Phase.PENDING
    state.committed_at, state.commit_time = m.position, m.now
    state.scan = Scan(Candidates.MEMBERS, members_of=state.position)
    state.cursor = 0
    state.rate_since, state.rate_from = m.now, state.members
    m.index_batch(state)
    _put_in_force(m, state)
    tell(m, state)
    return Answer(m.position, 202, c.request)


def tell(m: "Machine", state: BatchState) -> None:
    """Send the batch's progress, cumulative, as of this record; of one only announced there is none."""
    if state.phase is Phase.ANNOUNCED:
        return
    if not state.tally.adds_up():
        raise CorruptionError(f"the counts of batch {state.request} do not add up on partition {m.state.partition}")
    state.told_at = m.now
    state.owes = False
    m.owing.pop(state.position, None)
    m.changed_batches[state.position] = state
    outbox.send(
        m,
        PROGRESS,
        messages.Progress(
            request=state.request,
            partition=m.state.partition,
            number=outbox.next_number(m, PROGRESS),
            state=_PHASE_SHOWN.get(state.phase, "paused" if state.paused else "running"),
            position=state.position,
            revision=state.revision,
            at=m.now,
            tally=state.tally,
            members=state.members,
            committed_at=state.committed_at,
            propagated=state.propagated,
            cursor_ppm=state.cursor_ppm,
            sent=state.sent,
            received=state.received,
            reason=state.reason if state.phase is Phase.REFUSED else None,
            awaits_grace=state.awaits_grace,
        ),
    )


def tell_due(m: "Machine") -> None:
    """At a tick: tell what is owed, each batch at most twice a second; what is over was told at once.

    The longest untold come first, and in an order that does not depend on when this process started.
    """
    due = []
    for state in list(m.owing.values()):
        if state.phase is Phase.ANNOUNCED:  # there is nothing to tell before its own record
            state.owes = False
            m.changed_batches[state.position] = state
            del m.owing[state.position]
        elif m.now - state.told_at >= limits.PROGRESS_INTERVAL_US:
            due.append(state)
    due.sort(key=lambda state: (state.told_at, state.position))
    for state in due[: limits.PENDING_BATCHES_MAX]:
        tell(m, state)


def forget(m: "Machine") -> None:
    """At a tick: forget batches that no repeat can come of and that no kept row can name any more."""
    # Those under way cannot hold up the others: there are never more of them than that.
    for request, state in list(islice(m.batches.items(), 2 * limits.PENDING_BATCHES_MAX)):
        kept_until = max(state.not_after, state.at) + limits.REMEMBERED_US + m.state.max_retention
        under_way = state.owes or state.work_open or state.phase not in (*_OVER, Phase.ANNOUNCED)
        if m.now < kept_until or under_way or state.kill_in_force is not None or state.awaits_grace:
            continue
        del m.batches[request]
        for position in (*state.positions, state.announced_at):
            if position is not None:
                m.by_position.pop(position, None)
        if state.tally.failed:
            m.todo.append(Work(0, WorkKind.DROP_MEMBERS, cursor=str(state.in_force)))
        m.changed_batches.pop(state.position, None)
        m.store.batch_remove(state.position)
