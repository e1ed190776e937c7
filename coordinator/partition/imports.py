"""Imports: taking over invocations of another system as they stand.

Rows of a file come in any order: a waiter before the holder of its key, a child before its parent. Queues
therefore are handed on only once the import is over, and edges may wait for their parent.
"""

from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import CHILDREN, KEY, PARENT, Invocation, Payload, ServiceType
from coordinator.model.statuses import BY_NAME, NAMES, OUTCOME_BY_NAME, Action, Outcome, Status
from coordinator.partition import invoke, outbox
from coordinator.partition.outputs import Answer
from coordinator.stores.port import Timer, Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

EXISTING = "existing"


def import_row(m: "Machine", c: messages.Import) -> Answer:
    """Store one row; one that is there is left alone and answered `existing`."""
    invoke.check_target(m, c)
    if c.status not in BY_NAME:
        raise CallerError(f"status {c.status!r} is none of {', '.join(BY_NAME)}")
    if m.row_by_id(c.id) is not None:
        return Answer(m.position, 200, c.id, EXISTING)
    status = BY_NAME[c.status]
    if status is Status.PENDING and c.type != ServiceType.VIRTUAL_OBJECT:
        raise CallerError("a pending invocation waits for its key, and only a virtual object's keys have queues")
    row = _row(m, c, status)
    _set_timer(m, row, c, status)
    live = status is not Status.COMPLETED
    if c.parent is not None and not c.detached and live:
        row.ties |= PARENT
        adopt = messages.Adopt(parent=c.parent, child=c.id)
        outbox.send_to_partition(m, outbox.partition_of(m, c.parent), adopt)
    if m.store.edges(c.id, "", 1):
        if live:
            row.ties |= CHILDREN
        else:
            action = Action.KILL if row.outcome == Outcome.KILLED else ""
            m.todo.append(Work(0, WorkKind.TELL_CHILDREN, row.id, action, forget=True))
    _place_at_key(m, row, c, status)
    if status in (Status.READY, Status.RUNNING):
        m.made_ready.append(row)
    invoke.insert(m, row, Payload(imported=True))
    return Answer(m.position, 200, c.id, NAMES[status])


def _row(m: "Machine", c: messages.Import, status: Status) -> Invocation:
    outcome = None
    if status is Status.COMPLETED:
        if c.outcome not in OUTCOME_BY_NAME:
            raise CallerError(f"a completed invocation has an outcome: {', '.join(OUTCOME_BY_NAME)}")
        outcome = int(OUTCOME_BY_NAME[c.outcome])
    completed_at = c.completed_at if c.completed_at is not None else c.modified_at
    failure = None if c.last_failure is None else c.last_failure[: limits.FAILURE_CHARS_MAX]
    return Invocation(
        m.state.next_seq, c.id, c.service, c.handler, c.key, c.type, False, c.created_at, c.parent, c.detached,
        c.idempotency_key, max(0, c.retention), int(status), outcome, c.modified_at, c.scheduled_at,
        completed_at if outcome is not None else None, None, c.deployment, 0, c.retry, failure,
        0, 0, None, None, 0, m.position,
    )  # fmt: skip


def _set_timer(m: "Machine", row: Invocation, c: messages.Import, status: Status) -> None:
    if status in (Status.SCHEDULED, Status.BACKING_OFF):
        row.timer_at = c.due_at if c.due_at is not None else m.now
    elif row.completed_at is not None:
        row.timer_at = row.completed_at + row.retention
    if row.timer_at is not None:
        m.store.timer_add(Timer(row.timer_at, row.seq, row.seq))


def _place_at_key(m: "Machine", row: Invocation, c: messages.Import, status: Status) -> None:
    """Holder of its key, waiter, or neither: a second active one of a key runs a concurrent handler."""
    if row.type != ServiceType.VIRTUAL_OBJECT or row.key is None:
        return
    if status in (Status.SCHEDULED, Status.COMPLETED):
        return
    holder = m.store.holder(row.service, row.key)
    if status is Status.PENDING:
        at = c.inboxed_at if c.inboxed_at is not None else c.created_at
        m.store.queue_push(row.service, row.key, at, row.id, row.seq)
        if holder is None:
            m.state.loose_keys = True
            m.state.loose_at = m.position
    elif holder is None:
        m.store.set_holder(row.service, row.key, row.seq)
        row.ties |= KEY
    else:
        row.shared = True


def import_end(m: "Machine", c: messages.ImportEnd) -> Answer:
    """The import is over: keys with waiters and no holder are handed on."""
    if m.state.loose_keys:
        m.todo.append(Work(0, WorkKind.SETTLE_KEYS, cursor=str(m.position)))
    return Answer(m.position, 200)
