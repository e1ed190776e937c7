"""Handing attempts to participants, a bounded number at a time.

An attempt is delivered at the end of the record that made its invocation ready, when a slot is free and
nobody waits; otherwise it joins the backlog, which later records and ticks work off in order. Entries of the
backlog may be dead by then, killed or paused: they are looked up, caught up, and passed over.
"""

from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.model.invocation import HELD, WOKEN, CancelState, Invocation
from coordinator.model.statuses import Status
from coordinator.partition import outbox
from coordinator.partition.state import DELIVERIES

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_READY, _RUNNING = int(Status.READY), int(Status.RUNNING)


def dispatch(m: "Machine") -> None:
    """Deliver what this record made ready and what the backlog holds, as far as slots and rows allow."""
    state = m.state
    while state.backlog and state.held < limits.DELIVERIES_MAX and m.rows_left > 0:
        seq = m.store.ready_pop()
        state.backlog -= 1
        row = m.row_by_seq(seq) if seq is not None else None
        if row is not None and _may_start(row):
            _deliver(m, row)
    for row in m.made_ready:
        if not _may_start(row):
            continue
        if not state.backlog and state.held < limits.DELIVERIES_MAX:
            _deliver(m, row)
        else:
            m.store.ready_push(state.next_ready, row.seq)
            state.next_ready += 1
            state.backlog += 1
    m.made_ready.clear()


def _may_start(row: Invocation) -> bool:
    # One that was imported as running is held by nobody here and has to be delivered too.
    return (row.status == _READY or row.status == _RUNNING) and not row.ties & HELD


def _deliver(m: "Machine", row: Invocation) -> None:
    m.state.held += 1
    row.ties |= HELD
    row.attempt += 1
    m.save(row)
    payload = m.store.payload(row.seq)
    outbox.send(
        m,
        DELIVERIES,
        messages.Start(
            id=row.id,
            attempt=row.attempt,
            service=row.service,
            handler=row.handler,
            key=row.key,
            input=payload.input,
            headers=payload.headers,
            deployment=row.deployment,
            cancelled=row.cancel == CancelState.SIGNALLED,
        ),
    )


def let_go(m: "Machine", row: Invocation) -> None:
    """Its participant has reported that it is done with the attempt."""
    row.ties &= ~(HELD | WOKEN)
    m.state.held -= 1


def take_back(m: "Machine", row: Invocation) -> None:
    """Tell the participant to drop the attempt."""
    let_go(m, row)
    outbox.send(m, DELIVERIES, messages.Drop(id=row.id, attempt=row.attempt))
