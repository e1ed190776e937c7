"""Work items: consequences that one record could not finish, drained by ticks.

A consequence is first tried at the end of the record that caused it, while that record may still touch rows;
what is left is stored under a number and goes on in ticks. A batch is not completed before the work on its
account is done.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coordinator.partition import batches, contexts, deliveries, keys, trees
from coordinator.stores.port import Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine


def drain(m: "Machine") -> None:
    """Work off the record's consequences as far as its rows allow, store the rest, then see which batches are over."""
    while m.todo or m.to_settle:
        if not m.todo:
            batches.settle(m, m.to_settle.popleft())
            continue
        item = m.todo.popleft()
        if m.rows_left <= 0 or not _KINDS[WorkKind(item.kind)](m, item):
            _keep(m, item)


def drain_stored(m: "Machine") -> None:
    """Go on with stored work, the oldest first, while rows are left."""
    for item in m.store.work_list(max(m.rows_left, 0)):
        if m.rows_left <= 0:
            return
        if _KINDS[WorkKind(item.kind)](m, item):
            m.store.work_remove(item.number)
            m.state.works -= 1
            _account(m, item, -1)
        else:
            m.store.work_put(item)


def _keep(m: "Machine", item: Work) -> None:
    item.number = m.state.next_work
    m.state.next_work += 1
    m.state.works += 1
    m.store.work_put(item)
    _account(m, item, +1)


def _account(m: "Machine", item: Work, change: int) -> None:
    batch = m.by_position.get(item.batch) if item.batch is not None else None
    if batch is not None:
        batch.work_open += change
        m.note(batch)
        if not batch.work_open:
            m.to_settle.append(batch)


def _drop_members(m: "Machine", item: Work) -> bool:
    assert item.batch is None
    position = int(item.cursor)
    dropped = m.store.drop_members(position, m.rows_left)
    m.rows_left -= dropped
    return m.rows_left > 0


def _drop_journal(m: "Machine", item: Work) -> bool:
    used, following = m.store.journal_drop(int(item.a), int(item.b), m.rows_left)
    m.rows_left -= used
    if following is None:
        return True
    item.a = str(following)
    return False


def _drop_values(m: "Machine", item: Work) -> bool:
    for name, _ in m.store.values(item.a, item.b, "", m.rows_left):
        m.store.value_remove(item.a, item.b, name)
        m.rows_left -= 1
    return m.rows_left > 0


_KINDS: Final[dict[WorkKind, Callable[["Machine", Work], bool]]] = {
    WorkKind.HAND_ON: keys.hand_on,
    WorkKind.TELL_CHILDREN: trees.tell_children,
    WorkKind.SETTLE_KEYS: keys.settle,
    WorkKind.DROP_MEMBERS: _drop_members,
    WorkKind.TELL_AWAITERS: trees.tell_awaiters,
    WorkKind.DROP_JOURNAL: _drop_journal,
    WorkKind.DROP_VALUES: _drop_values,
    WorkKind.SEND_CONTEXT: contexts.send_rest,
    WorkKind.RECLAIM: deliveries.reclaim,
}
