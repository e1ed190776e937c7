"""Handing attempts to participants, a bounded number at a time.

What is to be delivered waits in a lane: its service's, or its deployment's once it is pinned to one. Whoever
carries deliveries says which lanes have a participant (`Serve`); the others wait here and take no slot from those.

An attempt is delivered at the end of the record that made its invocation ready, when a slot is free and nobody
waits; otherwise it joins the backlog, which later records and ticks work off in order. Entries of the backlog may
be dead by then, killed or paused: they are looked up, caught up, and passed over.
"""

from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import HELD, PICKY, WOKEN, CancelState, Invocation
from coordinator.model.statuses import Status
from coordinator.partition import contexts, lifecycle, outbox
from coordinator.partition.outputs import Answer
from coordinator.partition.state import DELIVERIES
from coordinator.stores.port import Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_READY, _RUNNING = int(Status.READY), int(Status.RUNNING)


def lane(row: Invocation) -> str:
    """Where the invocation waits for its participant."""
    return row.service if row.deployment is None else f"@{row.deployment}"


def dispatch(m: "Machine") -> None:
    """Deliver what this record made ready and what the backlog holds, as far as slots and rows allow."""
    state = m.state
    while m.waiting and state.held < limits.DELIVERIES_MAX and m.rows_left > 0:
        seq = _pop(m)
        row = m.row_by_seq(seq)
        if row is not None and _may_start(row):
            _deliver(m, row)
    for row in m.made_ready:
        if not _may_start(row):
            continue
        if not m.waiting and state.held < limits.DELIVERIES_MAX and _is_served(m, lane(row)):
            _deliver(m, row)
        else:
            _push(m, row)
    m.made_ready.clear()


def _may_start(row: Invocation) -> bool:
    # One that was imported as running is held by nobody here and has to be delivered too.
    return (row.status == _READY or row.status == _RUNNING) and not row.ties & HELD


def _is_served(m: "Machine", lane: str) -> bool:
    return m.served is None or lane in m.served


def _push(m: "Machine", row: Invocation) -> None:
    state, there = m.state, lane(row)
    m.store.ready_push(there, state.next_ready, row.seq)
    state.next_ready += 1
    state.backlog[there] = state.backlog.get(there, 0) + 1
    if _is_served(m, there):
        m.waiting += 1


def _pop(m: "Machine") -> int:
    """The next of the lanes that are served; `waiting` says that there is one."""
    found = m.store.ready_pop(m.served)
    assert found is not None
    there, seq = found
    m.waiting -= 1
    left = m.state.backlog[there] - 1
    if left:
        m.state.backlog[there] = left
    else:
        del m.state.backlog[there]
    return seq


def _deliver(m: "Machine", row: Invocation) -> None:
    m.state.held += 1
    row.ties = (row.ties | HELD) & ~PICKY
    row.attempt += 1
    m.save(row)
    m.store.held_put(row.seq, m.position)
    payload = m.store.payload(row.seq)
    context, cursor = contexts.first(m, row)
    start = messages.Start(
        id=row.id,
        attempt=row.attempt,
        service=row.service,
        handler=row.handler,
        key=row.key,
        type=row.type,
        shared=row.shared,
        input=payload.input,
        headers=payload.headers,
        deployment=row.deployment,
        idempotency_key=row.idempotency_key,
        retry=row.retry,
        cancelled=row.cancel == CancelState.SIGNALLED,
        entries=context.entries,
        values=context.values,
        more=cursor is not None,
    )
    outbox.send(m, DELIVERIES, start)
    if cursor is not None:
        m.todo.append(Work(0, WorkKind.SEND_CONTEXT, str(row.seq), str(row.attempt), cursor))


def let_go(m: "Machine", row: Invocation) -> None:
    """Nobody has the attempt any more."""
    row.ties &= ~(HELD | WOKEN)
    free_slot(m, row)


def free_slot(m: "Machine", row: Invocation) -> None:
    """One delivery fewer is outstanding."""
    m.state.held -= 1
    m.store.held_remove(row.seq)


def take_back(m: "Machine", row: Invocation) -> None:
    """Tell the participant to drop the attempt."""
    let_go(m, row)
    outbox.send(m, DELIVERIES, messages.Drop(id=row.id, attempt=row.attempt))


# -- who is there to deliver to ------------------------------------------------------------------------------


def serve(m: "Machine", c: messages.Serve) -> Answer:
    """Deliver these lanes and no others; with `reclaim`, once more what was delivered before."""
    if len(c.lanes) > limits.LANES_MAX:
        raise CallerError(f"{len(c.lanes)} lanes are too many; a partition serves {limits.LANES_MAX} at once")
    m.state.served = tuple(sorted(set(c.lanes)))
    m.look_at_lanes()
    if c.reclaim:
        m.todo.append(Work(0, WorkKind.RECLAIM, cursor=str(m.position)))
    return Answer(m.position, 200)


def reclaim(m: "Machine", item: Work) -> bool:
    """Take back what was delivered before a position; False when the record's rows were used up."""
    while m.rows_left > 0:
        held = m.store.held_before(int(item.cursor), m.rows_left)
        if not held:
            return True
        for seq in held:
            row = m.row_by_seq(seq)
            if row is not None and row.ties & HELD:
                take_back(m, row)
                lifecycle.make_ready(m, row)
                m.save(row)
    return False
