"""Keys of virtual objects: one invocation at a time holds a key, the others wait in order of arrival.

A free key has no live waiters, but while an import is under way (`State.loose_keys`). Waiters that a batch
ends stay in the queue as dead entries and are dropped when their turn comes, so ending a hundred thousand of
them costs no queue operation; handing a key on past them is bounded and goes on in ticks, the key staying
locked meanwhile.
"""

from typing import TYPE_CHECKING

from coordinator.model.invocation import KEY, Invocation
from coordinator.model.statuses import Status
from coordinator.partition import lifecycle
from coordinator.stores.port import Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_BEING_HANDED_ON = 0
_AFTER_IMPORTED = "~"
"""Sorts behind every invocation id: at the same instant the imported go first."""


def take(m: "Machine", row: Invocation) -> bool:
    """Make it hold its key; False when it has to wait, and then it is in the queue."""
    assert row.key is not None
    holder = m.store.holder(row.service, row.key)
    if holder is None and not m.state.loose_keys:
        m.store.set_holder(row.service, row.key, row.seq)
        row.ties |= KEY
        return True
    m.store.queue_push(row.service, row.key, m.now, _AFTER_IMPORTED, row.seq)
    if holder and m.pending and m.rows_left > 0:
        m.row_by_seq(holder)  # a batch in force may have ended it; then the key is handed on
    return False


def hand_on(m: "Machine", item: Work) -> bool:
    """Give the key to its first live waiter; False when the record's rows were used up before one was found."""
    service, key = item.a, item.b
    while m.rows_left > 0:
        seq = m.store.queue_pop(service, key)
        if seq is None:
            m.store.set_holder(service, key, None)
            return True
        row = m.row_by_seq(seq)
        if row is None or row.status != Status.PENDING:
            continue
        m.store.set_holder(service, key, seq)
        row.ties |= KEY
        lifecycle.make_ready(m, row)
        m.save(row)
        return True
    return False


def settle(m: "Machine", item: Work) -> bool:
    """After an import: hand on every key that has waiters and no holder; False when there are more."""
    while m.rows_left > 0:
        found, looked_up_to = m.store.free_keys(item.a, item.b, m.rows_left)
        m.rows_left -= len(found) if looked_up_to is None else m.rows_left
        for service, key in found:
            m.store.set_holder(service, key, _BEING_HANDED_ON)
            m.todo.append(Work(0, WorkKind.HAND_ON, service, key))
        if looked_up_to is None:
            if m.state.loose_at < int(item.cursor):  # else another import has begun since
                m.state.loose_keys = False
            return True
        item.a, item.b = looked_up_to
    return False
