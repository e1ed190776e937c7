"""Call trees: the edge from a parent to its attached children, in the parent's partition.

A child is created only through its parent's partition, the edge and the message in one commit, so there is
no child without an edge. Kill goes down the tree by messages, without compensation; a cancel goes to the
leaves first and comes back up, one `ChildEnded` at a time. Detached calls have no edge and survive.
"""

from typing import TYPE_CHECKING

from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import CHILDREN, HELD, PARENT, PICKY, WOKEN, CancelState, Invocation
from coordinator.model.statuses import OUTCOME_NAMES, Action, Counter, Outcome, Status
from coordinator.partition import actions, batches, contexts, lifecycle, outbox
from coordinator.partition.state import DELIVERIES
from coordinator.stores.port import Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_COMPLETED = int(Status.COMPLETED)
_SUSPENDED = int(Status.SUSPENDED)
_NO_STEP = -1
"""Of an edge that was imported."""


def tell_parents(m: "Machine", row: Invocation, output: bytes | None) -> None:
    """Send word of an invocation's end to the parent that called it, and to others that have attached to it."""
    if row.parent is not None and not row.detached:
        _tell(m, row.parent, row.id, row, output)
    if m.store.awaiters(row.seq, 1):
        m.todo.append(Work(0, WorkKind.TELL_AWAITERS, str(row.seq)))


def attach(m: "Machine", row: Invocation, parent: str, child: str) -> None:
    """A call has met an invocation that is there already: its parent is told of that one's end too.

    The parent knows it as `child`. It is not the parent's own, so neither a kill nor a cancel goes down to it.
    """
    if row.status == _COMPLETED:
        _tell(m, parent, child, row, m.store.payload(row.seq).output)
        return
    m.store.awaiter_add(row.seq, parent, child)
    row.ties |= PARENT
    row.caught_up_to = m.position
    m.store.save(row)  # with the modified_at that it has: nothing has become of it


def tell_awaiters(m: "Machine", item: Work) -> bool:
    """Tell those that have attached to an invocation of its end; False when there are more."""
    seq = int(item.a)
    while m.rows_left > 0:
        row = m.row_by_seq(seq)
        payload = m.store.payload(seq)
        waiting = m.store.awaiters(seq, max(1, m.rows_left))  # at least one, or ticks of one row would tell nobody
        if not waiting:
            return True
        m.rows_left -= len(waiting)
        for parent, child in waiting:
            m.store.awaiter_remove(seq, parent, child)
            _tell(m, parent, child, row, payload.output)
    return False


def _tell(m: "Machine", parent: str, child: str, row: Invocation | None, output: bytes | None) -> None:
    """Send word of how an invocation has ended; `row` None: it was purged before all were told."""
    if row is None:
        message = _child_ended(parent, child, Outcome.FAILURE, failure="it was purged before its result was told")
    elif row.outcome == Outcome.FAILURE:
        message = _child_ended(parent, child, Outcome.FAILURE, failure=row.last_failure)
    else:
        message = _child_ended(parent, child, Outcome(row.outcome or 0), output=output)
    outbox.send_to_partition(m, outbox.partition_of(m, parent), message)


def _child_ended(
    parent: str, child: str, outcome: Outcome, *, output: bytes | None = None, failure: str | None = None
) -> messages.ChildEnded:
    return messages.ChildEnded(
        parent=parent, child=child, outcome=OUTCOME_NAMES[outcome], output=output, failure=failure
    )


def child_ended(m: "Machine", c: messages.ChildEnded) -> None:
    """Close the edge and enter the result; the parent goes on, or is told of its cancel once it was the last."""
    step = m.store.edge_remove(c.parent, c.child)
    if step is None:
        return
    row = m.row_by_id(c.parent)
    if row is None or row.status == _COMPLETED:
        return
    was = row.status, row.ties
    if not m.store.edges(c.parent, "", 1):
        row.ties &= ~CHILDREN
    entry = m.store.journal_entry(row.seq, step) if step >= 0 else None
    if entry is not None:
        entry.done, entry.outcome, entry.value, entry.failure = True, c.outcome, c.output, c.failure
        entry.withheld = row.cancel == CancelState.REQUESTED
        m.store.journal_put(row.seq, entry)
    if row.ties & HELD:
        row.ties |= WOKEN
    if row.cancel == CancelState.REQUESTED:
        if not row.ties & CHILDREN:
            actions.surface_cancel(m, row)
    elif row.ties & HELD and entry is not None:
        outbox.send(m, DELIVERIES, messages.Notify(id=row.id, attempt=row.attempt, entry=contexts.as_told(row, entry)))
    elif row.status == _SUSPENDED and (not row.ties & PICKY or entry is None or entry.awaited == row.attempt):
        lifecycle.make_ready(m, row)
    if entry is not None or (row.status, row.ties) != was:
        m.save(row)


def adopt(m: "Machine", c: messages.Adopt) -> None:
    """An imported child names its parent, which may come later in the import or be here already."""
    ids.partition_key_of(c.child)
    row = m.row_by_id(c.parent)
    if row is not None and row.status == _COMPLETED:
        if row.outcome == Outcome.KILLED:
            _end(m, c.parent, [c.child], Action.KILL, row.batch if row.batch is not None else row.cancel_batch)
        return
    if m.store.edge_add(c.parent, c.child, _NO_STEP) and row is not None:
        row.ties |= CHILDREN
        row.children += 1
        row.caught_up_to = m.position
        m.store.save(row)  # with the modified_at that it has: it is taken over as it stands
        if row.cancel == CancelState.REQUESTED:
            _end(m, c.parent, [c.child], Action.CANCEL, row.cancel_batch)


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
            for _, chunk in sorted(by_partition.items()):
                _end(m, item.a, chunk, item.b, item.batch)
    return False


def _end(m: "Machine", parent: str, children: list[str], action: str, batch_position: int | None) -> None:
    """Send an action to children that share a partition."""
    partition = outbox.partition_of(m, children[0])
    batch = m.by_position.get(batch_position) if batch_position is not None else None
    message = messages.EndChildren(
        parent=parent, children=tuple(children), action=action, request=None if batch is None else batch.request
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
        if row is None and c.action == Action.CANCEL:
            # What its call was attached to is not its own and goes on, but it waits for that no longer.
            gone = _child_ended(c.parent, id, Outcome.CANCELLED)
            outbox.send_to_partition(m, outbox.partition_of(m, c.parent), gone)
        if row is None or row.status == _COMPLETED:
            continue
        if c.action == Action.KILL and not m.store.awaiters(row.seq, 1):
            row.ties &= ~PARENT  # the parent is gone and waits for nobody
        counter = actions.act(m, row, Action(c.action), at=m.now, position=m.position, single=True, behalf=behalf)
        if batch is not None:
            if row.status == _COMPLETED:  # `batch` is only of those that it has ended itself
                row.cancel_batch = behalf
            else:
                row.batch = behalf
            m.store.save(row)
            batch.propagated += counter is Counter.ENDED
