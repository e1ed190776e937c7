"""The grace of a cancel: when it is over, what the cancel has asked to end and has not ended is killed.

That is a batch within the batch. It comes into force at the position of the tick that finds the time over, folds into
rows and is scanned as any other, but it has no progress and no name of its own: what it ends, the cancel counts, and
what follows is on the cancel's account. It matches the rows whose open cancel is this one's. A row that the cancel's
own scan has not come to by then meets both when it is looked at, in order; the scan of the kill follows the cancel's.
"""

from typing import TYPE_CHECKING

import msgspec

from coordinator.model import filters, limits
from coordinator.model.statuses import Action
from coordinator.partition import batches
from coordinator.partition.pending import Pending
from coordinator.partition.state import BatchState, Phase

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine


def fire(m: "Machine") -> None:
    """At the beginning of a tick: put the kill of one cancel in force whose grace is over, if there is room.

    One for each tick, because a position belongs to one batch.
    """
    for position in sorted(m.graces):
        state = m.graces[position]
        if state.kill is not None or not state.awaits_grace:
            del m.graces[position]
        elif _is_running(state) and _due_at(state) <= m.now and _has_room(m):
            del m.graces[position]
            _kill(m, state)
            return


def _kill(m: "Machine", state: BatchState) -> None:
    asked = filters.Resolved(ids=state.filter.ids, asked_at=state.in_force)
    filter = filters.with_statuses_of(asked, Action.KILL)
    assert isinstance(filter, filters.Resolved)
    kill = state.kill = BatchState(
        request=state.request,
        position=m.position,
        at=m.now,
        phase=Phase.PENDING,
        action=Action.KILL,
        filter=filter,
        scan=batches.scan_of(msgspec.structs.replace(state.filter, failed_at=None)),  # those may be forgotten sooner
        below=state.below,
    )
    m.pending.append(Pending(kill, m.store, state))
    m.newest_pending = kill.position
    m.index_batch(state)
    m.note(state)


def killed(m: "Machine", pending: Pending) -> None:
    """Every candidate of the kill is decided."""
    batches.take_off(m, pending.state)
    pending.state.phase = Phase.COMPLETED
    m.note(pending.account)


def call_off(m: "Machine", state: BatchState) -> None:
    """The cancel is aborted: what its grace has not killed by now, it never will."""
    m.graces.pop(state.position, None)
    kill = state.kill_in_force
    if kill is not None:
        batches.take_off(m, kill)
        kill.phase = Phase.ABORTED
    m.note(state)


def next_due(m: "Machine") -> int | None:
    """When the next grace is over that a tick could act on; None when there is none."""
    if not m.graces or not _has_room(m):
        return None
    return min((_due_at(state) for state in m.graces.values() if _is_running(state)), default=None)


def _is_running(state: BatchState) -> bool:
    """Of a guarded cancel it begins with the commit."""
    return state.awaits_grace and not state.marks


def _due_at(state: BatchState) -> int:
    assert state.grace is not None
    return state.in_force_time + state.grace


def _has_room(m: "Machine") -> bool:
    return len(m.pending) + len(m.prepared) < limits.PENDING_BATCHES_MAX
