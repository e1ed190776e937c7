"""Handing attempts to participants, a bounded number at a time.

What is to be delivered waits in a lane: its service's, or its deployment's once it is pinned to one. Whoever
carries deliveries says which lanes have a participant (`Serve`); the others wait here. Each lane has slots of its
own, so one whose handlers are slow holds up no other.

An attempt is delivered at the end of the record that made its invocation ready, when a slot is free and nobody
waits; otherwise it joins its lane's backlog, which later records and ticks work off in order, the lanes in turns.
Entries of a backlog may be dead by then, killed or paused: they are looked up, caught up, and passed over.
"""

from typing import TYPE_CHECKING, Final

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
_ROWS_PER_START: Final = 2
"""What starting one may look at: its row, and that of the run whose state it sees."""


def lane(row: Invocation) -> str:
    """Where the invocation waits for its participant."""
    return row.service if row.deployment is None else f"@{row.deployment}"


def dispatch(m: "Machine") -> None:
    """Deliver what this record made ready and what the backlogs hold, as far as slots and rows allow."""
    while m.open_lanes and m.rows_left >= _ROWS_PER_START:
        there = m.state.lane_turn = _next_lane(m)
        while there in m.open_lanes and m.rows_left >= _ROWS_PER_START:
            row = m.row_by_seq(_pop(m, there))
            # Resumed on another deployment, it waits in that one's lane too, and this entry is dead.
            if row is not None and lane(row) == there and _may_start(row):
                _deliver(m, row)
    for row in m.made_ready:
        if not _may_start(row):
            continue
        fits = m.rows_left > 0 or not contexts.sees_another(row)
        if fits and lane(row) not in m.state.backlog and _has_slot(m, lane(row)):
            _deliver(m, row)
        else:
            _push(m, row)
    m.made_ready.clear()


def look_at_lanes(m: "Machine") -> None:
    """Derive from the state which lanes are served, and which of them have both a slot and somebody for it."""
    lanes = m.state.served
    m.served = None if lanes is None else frozenset(lanes)
    m.open_lanes = {there for there in m.state.backlog if _has_slot(m, there)}


def _next_lane(m: "Machine") -> str:
    """Whose turn it is: the lanes follow one another by name, and the last is followed by the first."""
    return min((there for there in m.open_lanes if there > m.state.lane_turn), default=None) or min(m.open_lanes)


def _may_start(row: Invocation) -> bool:
    # One that was imported as running is held by nobody here and has to be delivered too.
    return (row.status == _READY or row.status == _RUNNING) and not row.ties & HELD


def _has_slot(m: "Machine", lane: str) -> bool:
    return (m.served is None or lane in m.served) and m.state.held.get(lane, 0) < limits.DELIVERIES_MAX


def _push(m: "Machine", row: Invocation) -> None:
    state, there = m.state, lane(row)
    m.store.ready_push(there, state.next_ready, row.seq)
    state.next_ready += 1
    state.backlog[there] = state.backlog.get(there, 0) + 1
    if _has_slot(m, there):
        m.open_lanes.add(there)


def _pop(m: "Machine", lane: str) -> int:
    """The first that waits in a lane which is open."""
    seq = m.store.ready_pop(lane)
    assert seq is not None
    if _take_one(m.state.backlog, lane) == 0:
        m.open_lanes.discard(lane)
    return seq


def _take_one(counts: dict[str, int], lane: str) -> int:
    """One fewer of a lane; how many are left."""
    left = counts[lane] - 1
    if left:
        counts[lane] = left
    else:
        del counts[lane]
    return left


def _deliver(m: "Machine", row: Invocation) -> None:
    there = lane(row)
    held = m.state.held[there] = m.state.held.get(there, 0) + 1
    if held == limits.DELIVERIES_MAX:
        m.open_lanes.discard(there)
    row.ties = (row.ties | HELD) & ~PICKY
    row.attempt += 1
    m.save(row)
    m.store.held_put(row.seq, m.position, there)
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
        cancelled=row.cancel >= CancelState.SIGNALLED,
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
    there = m.store.held_remove(row.seq)  # which may no longer be the lane that it would wait in
    _take_one(m.state.held, there)
    if there in m.state.backlog and _has_slot(m, there):
        m.open_lanes.add(there)


def take_back(m: "Machine", row: Invocation) -> None:
    """Tell the participant to drop the attempt."""
    let_go(m, row)
    outbox.send(m, DELIVERIES, messages.Drop(id=row.id, attempt=row.attempt))


# -- who is there to deliver to ------------------------------------------------------------------------------


def serve(m: "Machine", c: messages.Serve) -> Answer:
    """Deliver these lanes and no others; with `reclaim`, once more what was delivered before."""
    if len(c.lanes) > limits.LANES_MAX:
        raise CallerError(f"{len(c.lanes)} lanes are too many; a partition serves {limits.LANES_MAX} at once")
    if c.tenure < m.state.tenure:
        detail = f"deliveries are carried under tenure {m.state.tenure} now, and {c.tenure} is over"
        return Answer(m.position, 409, status="stale", detail=detail)
    m.state.tenure = c.tenure
    m.state.served = tuple(sorted(set(c.lanes)))
    look_at_lanes(m)
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
