"""Call trees: the edge from a parent to its attached children, in the parent's partition.

A child is created only through its parent's partition, the edge and the message in one commit, so there is
no child without an edge. Kill goes down the tree by messages, without compensation; a cancel goes to the
leaves first and comes back up, one `ChildEnded` at a time. Detached calls have no edge and survive.
"""

from typing import TYPE_CHECKING

from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import CHILDREN, HELD, PARENT, CancelState, Invocation
from coordinator.model.statuses import OUTCOME_NAMES, Action, Counter, Outcome, Status
from coordinator.partition import actions, batches, invoke, lifecycle, outbox, reports
from coordinator.partition.outputs import Answer
from coordinator.stores.port import Work

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_COMPLETED = int(Status.COMPLETED)


def called(m: "Machine", c: messages.Called) -> Answer | None:
    """A running handler calls others: an edge for each attached one, and the invocation by message."""
    if len(c.calls) > limits.CALLS_PER_REPORT_MAX:
        raise CallerError(f"a report may hold {limits.CALLS_PER_REPORT_MAX} calls; send more reports")
    for call in c.calls:
        invoke.check_names(call.service, call.handler, call.key, call.type, call.idempotency_key)
        _check_size(call)
    row = m.row_by_id(c.id)
    if row is None or row.attempt != c.attempt or not row.ties & HELD:
        return reports.stale(m, c)
    attached = sum(not call.detached for call in c.calls)
    if row.children + attached > limits.CHILDREN_MAX:
        return Answer(
            m.position, 409, c.id, detail=f"{c.id} has called {limits.CHILDREN_MAX} children, as many as it may"
        )
    if attached and row.cancel == CancelState.REQUESTED:
        detail = f"{c.id} is asked to cancel: its attached calls fail as cancelled until that has surfaced"
        return Answer(m.position, 409, c.id, OUTCOME_NAMES[Outcome.CANCELLED], detail)
    for n, call in enumerate(c.calls):
        child = ids.derived_id(f"{m.state.log}/{m.state.partition}/{m.position}", n, call.key)
        if not call.detached:
            m.store.edge_add(row.id, child)
            row.ties |= CHILDREN
        outbox.send_to_partition(m, outbox.partition_of(m, child), _invocation_of(call, child, row))
    row.children += attached
    m.save(row)
    return None


def _check_size(call: messages.Call) -> None:
    """Raise CallerError when the invoke record that comes of it could be too large for its partition to take."""
    size = len(call.input or b"")
    for name, value in call.headers.items():
        size += len(name.encode()) + len(value.encode()) + 10  # and at most five bytes before each
    if size > limits.CALL_BYTES_MAX:
        raise CallerError(f"input and headers of a call may have {limits.CALL_BYTES_MAX} bytes, and these have {size}")


def _invocation_of(call: messages.Call, child: str, parent: Invocation) -> messages.Invoke:
    return messages.Invoke(
        id=child,
        service=call.service,
        handler=call.handler,
        key=call.key,
        type=call.type,
        shared=call.shared,
        input=call.input,
        headers=call.headers,
        due_at=call.due_at,
        idempotency_key=call.idempotency_key,
        parent=parent.id,
        detached=call.detached,
    )


def tell_parent(m: "Machine", parent: str, child: str, outcome: Outcome) -> None:
    """Send word of an attached child's end to where its parent lives."""
    message = messages.ChildEnded(parent=parent, child=child, outcome=OUTCOME_NAMES[outcome])
    outbox.send_to_partition(m, outbox.partition_of(m, parent), message)


def child_ended(m: "Machine", c: messages.ChildEnded) -> None:
    """Close the edge; the parent goes on, or is told of its cancel once it was the last."""
    if not m.store.edge_remove(c.parent, c.child):
        return
    row = m.row_by_id(c.parent)
    if row is None or row.status == _COMPLETED:
        return
    was = row.status, row.ties
    if not m.store.edges(c.parent, "", 1):
        row.ties &= ~CHILDREN
    if row.cancel != CancelState.REQUESTED or row.ties & HELD:
        lifecycle.wake(m, row)
    if row.cancel == CancelState.REQUESTED and not row.ties & CHILDREN:
        actions.surface_cancel(m, row)
    if (row.status, row.ties) != was:
        m.save(row)


def adopt(m: "Machine", c: messages.Adopt) -> None:
    """An imported child names its parent, which may come later in the import or be here already."""
    ids.partition_key_of(c.child)
    row = m.row_by_id(c.parent)
    if row is not None and row.status == _COMPLETED:
        if row.outcome == Outcome.KILLED:
            _end(m, outbox.partition_of(m, c.child), [c.child], Action.KILL, row.batch)
        return
    if m.store.edge_add(c.parent, c.child) and row is not None:
        row.ties |= CHILDREN
        row.children += 1
        row.caught_up_to = m.position
        m.store.save(row)  # with the modified_at that it has: it is taken over as it stands
        if row.cancel == CancelState.REQUESTED:
            _end(m, outbox.partition_of(m, c.child), [c.child], Action.CANCEL, row.cancel_batch)


def tell_children(m: "Machine", item: Work) -> bool:
    """Send an action to a parent's open children, in chunks; False when the record's rows were used up."""
    while m.rows_left > 0:
        wanted = min(m.rows_left, limits.CHILDREN_PER_RECORD_MAX)
        children = m.store.edges(item.a, item.cursor, wanted)
        if not children:
            return True
        m.rows_left -= len(children)
        item.cursor = children[-1]
        by_partition: dict[int, list[str]] = {}
        for child in children:
            by_partition.setdefault(outbox.partition_of(m, child), []).append(child)
            if item.forget:
                m.store.edge_remove(item.a, child)
        if item.b:
            for partition, chunk in sorted(by_partition.items()):
                _end(m, partition, chunk, item.b, item.batch)
    return False


def _end(m: "Machine", partition: int, children: list[str], action: str, batch_position: int | None) -> None:
    batch = m.by_position.get(batch_position) if batch_position is not None else None
    message = messages.EndChildren(
        children=tuple(children), action=action, request=None if batch is None else batch.request
    )
    outbox.send_to_partition(m, partition, message)
    if batch is not None:
        batch.sent[partition] = batch.sent.get(partition, 0) + 1
        m.note(batch)


def end_children(m: "Machine", c: messages.EndChildren) -> None:
    """A parent elsewhere was killed or asks to cancel: the same for these children, here."""
    if len(c.children) > limits.CHILDREN_PER_RECORD_MAX or c.action not in (Action.KILL, Action.CANCEL):
        raise CallerError("it names too many children, or an action that children are not sent")
    batch = behalf = None
    if c.request is not None:
        batch = batches.known(m, c.request)
        behalf = batch.in_force
        batch.received[c.source] = batch.received.get(c.source, 0) + 1
        m.note(batch)
    for id in c.children:
        row = m.row_by_id(id)
        if row is None or row.status == _COMPLETED:
            continue
        if c.action == Action.KILL:
            row.ties &= ~PARENT  # the parent is gone and waits for nobody
        counter = actions.act(m, row, Action(c.action), at=m.now, position=m.position, single=True, behalf=behalf)
        if batch is not None:
            row.batch = behalf
            m.store.save(row)
            batch.propagated += counter is Counter.ENDED
