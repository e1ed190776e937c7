"""Creating an invocation: what may be one, whether it is there already, and its row."""

from typing import TYPE_CHECKING

from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import (
    PARENT,
    Invocation,
    Payload,
    ServiceType,
    status_name,
)
from coordinator.model.statuses import Status
from coordinator.partition import lifecycle, outbox, trees
from coordinator.partition.outputs import Answer
from coordinator.stores.port import Timer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_SCHEDULED = int(Status.SCHEDULED)
_READY = int(Status.READY)
_WORKFLOW = int(ServiceType.WORKFLOW)
_NO_PAYLOAD = Payload()


def invoke(m: "Machine", c: messages.Invoke) -> Answer:
    """Create an invocation, unless its id, idempotency key or workflow key has been seen."""
    check_target(m, c)
    if c.restarted_from is not None:
        ids.partition_key_of(c.restarted_from)
    known = _known(m, c)
    if known is not None:
        if c.parent is not None and not c.detached and known.id != c.id:
            trees.attach(m, known, c.parent, c.id)
        return Answer(m.position, 200, known.id, status_name(known))
    row = Invocation(
        m.state.next_seq, c.id, c.service, c.handler, c.key, c.type, c.shared, m.now, c.parent, c.detached,
        c.idempotency_key, max(0, c.retention), _READY, None, m.now, None, None, None, c.deployment, 0, 0, None,
        0, 0, None, None, 0, m.position,
    )  # fmt: skip
    if c.parent is not None and not c.detached:
        row.ties = PARENT
    payload = Payload(c.input, c.headers, depth=c.depth, restarted_from=c.restarted_from)
    if c.due_at is not None and c.due_at > m.now:
        row.status = _SCHEDULED
        row.scheduled_at = row.timer_at = c.due_at
        m.store.timer_add(Timer(c.due_at, row.seq, row.seq))
    else:
        row.scheduled_at = c.due_at
        lifecycle.begin(m, row)
    insert(m, row, None if payload == _NO_PAYLOAD else payload)
    return Answer(m.position, 200, row.id, status_name(row))


def _known(m: "Machine", c: messages.Invoke) -> Invocation | None:
    row = m.row_by_id(c.id)
    if row is None and c.idempotency_key is not None:
        while (found := m.store.by_idempotency_key(c.service, c.handler, c.key, c.idempotency_key)) is not None:
            if (row := _left(m, found)) is not None:
                return row
    if row is None and c.type == _WORKFLOW and not c.shared and c.key is not None:
        while (found := m.store.by_workflow_key(c.service, c.key)) is not None:
            if (row := _left(m, found)) is not None:
                return row
    return row


def _left(m: "Machine", found: Invocation) -> Invocation | None:
    """The newest of a key; None when a pending batch has purged it: then the one before it counts, if any."""
    if m.rows_left <= 0:
        raise CallerError("its key is taken by more purged invocations than one record may look at; send it again")
    return m.seen(found)


def check_target(m: "Machine", c: messages.Invoke | messages.Import) -> None:
    """Raise CallerError unless the id belongs to this partition and the names are within their limits."""
    if outbox.partition_of(m, c.id) != m.state.partition:
        raise CallerError(f"{c.id} does not belong to partition {m.state.partition}; route it by its id")
    check_names(c.service, c.handler, c.key, c.type, c.idempotency_key)
    if c.parent is not None:
        ids.partition_key_of(c.parent)
    if c.key is not None and ids.partition_key_of(c.id) != ids.key_partition_key(c.key):
        raise CallerError(f"{c.id} does not carry the partition key of its key; everything of a key shares a partition")


def check_names(service: str, handler: str, key: str | None, type: int, idempotency_key: str | None) -> None:
    """Raise CallerError unless they can be a target's."""
    if not (0 < len(service) <= limits.NAME_CHARS_MAX and 0 < len(handler) <= limits.NAME_CHARS_MAX):
        raise CallerError(f"service and handler must have 1 to {limits.NAME_CHARS_MAX} characters")
    if (key is None) != (type == ServiceType.SERVICE) or not 0 <= type <= _WORKFLOW:
        raise CallerError("a service (type 0) has no key; a virtual object (1) or workflow (2) needs one")
    if len(key or "") > limits.KEY_CHARS_MAX or len(idempotency_key or "") > limits.KEY_CHARS_MAX:
        raise CallerError(f"a key may have {limits.KEY_CHARS_MAX} characters")


def insert(m: "Machine", row: Invocation, payload: Payload | None) -> None:
    """Store a new row as the newest of the partition."""
    state = m.state
    state.next_seq += 1
    if state.min_retention is None or row.retention < state.min_retention:
        state.min_retention = row.retention
    if row.retention > state.max_retention:
        state.max_retention = row.retention
    m.looked_up.add(row.seq)
    m.store.insert(row, payload)
