"""Timers: what is due at a tick's append time.

A timer is a hint to look at a row, or at a slice of rows that were ended together; whether anything is due
stands in the row itself, so a row that was ended or started otherwise needs no timer removed.
"""

from typing import TYPE_CHECKING

from coordinator.model import limits
from coordinator.model.filters import EMPTY
from coordinator.model.invocation import Invocation
from coordinator.model.statuses import Status
from coordinator.partition import lifecycle
from coordinator.stores.port import Candidates, Condition, Scan, Slice, Timer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_COMPLETED = frozenset((int(Status.COMPLETED),))


def fire(m: "Machine", timers_max: int) -> None:
    """Let what is due happen, up to this tick's quota of rows."""
    m.rows_left = timers_max
    for timer in m.store.timers_due(m.now, timers_max):
        if m.rows_left <= 0:
            return
        m.store.timer_remove(timer)
        if timer.first != timer.last:
            _expire_slice(m, timer)
            continue
        row = m.row_by_seq(timer.first)
        if row is not None:
            _fire_or_set_again(m, row)


def _fire_or_set_again(m: "Machine", row: Invocation) -> None:
    if row.timer_at is None:
        return
    if row.timer_at <= m.now:
        lifecycle.due(m, row)
    else:
        m.store.timer_add(Timer(row.timer_at, row.seq, row.seq))


def _expire_slice(m: "Machine", timer: Timer) -> None:
    """Remove those of the slice whose retention is over; the others get a timer of their own."""
    everything = Scan(Candidates.ALL)
    end, _ = m.store.slice_end(everything, timer.first - 1, timer.last + 1, limits.TICK_SWEEP_MAX)
    if end is None:
        return
    part = Slice(everything, timer.first - 1, end)
    limit = m.rows_left
    rows = m.store.select(part, Condition(EMPTY, m.position + 1, statuses=_COMPLETED), limit)
    for row in rows:
        if m.seen(row) is not None:
            _fire_or_set_again(m, row)
    looked_at = rows[-1].seq if len(rows) == limit else end
    if looked_at < timer.last:
        m.store.timer_add(Timer(timer.due_at, looked_at + 1, timer.last))
