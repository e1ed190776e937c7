"""The course of one invocation: it may begin, is made ready, is woken, comes due, and ends.

What brings it about is in `invoke`, `reports`, `actions` and `timers`; here is what these have in common.
"""

from typing import TYPE_CHECKING, Final

from coordinator.model import messages
from coordinator.model.invocation import (
    CANCEL,
    CHILDREN,
    HELD,
    KEY,
    PARENT,
    STATE,
    Invocation,
    ServiceType,
)
from coordinator.model.statuses import (
    Action,
    Outcome,
    Status,
)
from coordinator.partition import contexts, deliveries, keys, outbox, trees
from coordinator.partition.state import DELIVERIES
from coordinator.stores.port import Timer, Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_SCHEDULED = int(Status.SCHEDULED)
_PENDING = int(Status.PENDING)
_READY = int(Status.READY)
_BACKING_OFF = int(Status.BACKING_OFF)
_SUSPENDED = int(Status.SUSPENDED)
_COMPLETED = int(Status.COMPLETED)
_OBJECT = int(ServiceType.VIRTUAL_OBJECT)


_TO_CHILDREN: Final[dict[int | None, str]] = {
    int(Outcome.KILLED): Action.KILL,
    int(Outcome.CANCELLED): Action.CANCEL,
}
"""Outcome → what its open children are asked; of another one's they go on, and nobody waits for them."""


def needs_key(row: Invocation) -> bool:
    """Whether it must hold its key to run."""
    return row.type == _OBJECT and not row.shared and row.key is not None


def begin(m: "Machine", row: Invocation) -> None:
    """It may start as far as time is concerned: take the key or wait for it, or be ready at once."""
    if needs_key(row) and not keys.take(m, row):
        row.status = _PENDING
        return
    make_ready(m, row)


def make_ready(m: "Machine", row: Invocation) -> None:
    """It is to be delivered; that happens at the end of the record, slots allowing."""
    row.status = _READY
    row.timer_at = None
    m.made_ready.append(row)


def due(m: "Machine", row: Invocation) -> None:
    """The time of a scheduled start, of a retry, or of the end of a sleep or of its retention has come."""
    row.timer_at = None
    if row.status == _SCHEDULED:
        begin(m, row)
        m.save(row)
    elif row.status in (_BACKING_OFF, _SUSPENDED):
        make_ready(m, row)
        m.save(row)
    elif row.status == _COMPLETED:
        remove(m, row)


def remove(m: "Machine", row: Invocation) -> None:
    """Forget a completed invocation, and what only it had use for."""
    m.store.remove(row)
    forget_journals(m, row.seq, row.seq)
    if row.ties & STATE:
        m.todo.append(Work(0, WorkKind.DROP_VALUES, row.service, contexts.space_of_run(row)))


def forget_journals(m: "Machine", first: int, last: int) -> None:
    """Forget the journals of those of these rows that were removed, in time."""
    if m.store.journal_kept(first, last):
        m.todo.append(Work(0, WorkKind.DROP_JOURNAL, str(first), str(last)))


def ended(
    m: "Machine", row: Invocation, ties: int, *, asked_by: int | None, batch: int | None, output: bytes | None = None
) -> None:
    """What follows for others when an invocation with these ties has ended.

    `asked_by` is the batch that had asked it to cancel, `batch` the one that ended it, by position.
    """
    if row.timer_at is not None:
        m.store.timer_add(Timer(row.timer_at, row.seq, row.seq))
    if not ties:
        return
    if ties & HELD:
        deliveries.free_slot(m, row)
        outbox.send(m, DELIVERIES, messages.Drop(id=row.id, attempt=row.attempt))
    if ties & KEY and row.key is not None:
        m.store.set_holder(row.service, row.key, 0)
        m.todo.append(Work(0, WorkKind.HAND_ON, row.service, row.key, batch=batch))
    if ties & PARENT:
        trees.tell_parents(m, row, output)
    if ties & CHILDREN:
        action = _TO_CHILDREN.get(row.outcome, "")
        m.todo.append(Work(0, WorkKind.TELL_CHILDREN, row.id, action, batch=batch, forget=True))
    if ties & CANCEL and asked_by is not None:
        _settle_cancel(m, asked_by, Outcome(row.outcome or 0), batch)


def _settle_cancel(m: "Machine", asked_by: int, outcome: Outcome, ended_by: int | None) -> None:
    """The batch that asked it to cancel counts it as ended now: by the cancel or its grace, or by something else."""
    batch = m.by_position.get(asked_by)
    if batch is None:
        return
    batch.tally.signalled -= 1
    by_grace = batch.kill is not None and batch.kill.position == ended_by
    if outcome is Outcome.CANCELLED or by_grace:
        batch.tally.ended += 1
    else:
        batch.tally.ended_by_other += 1
    m.note(batch)
