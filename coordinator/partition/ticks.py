"""Ticks: bounded amounts of deferred work, asked for by numbered records on the partition's own log.

A tick whose number is not the last + 1 is a no-op, so a second owner or a repeated append is harmless. How
large a tick is comes with the record and is clamped here; the driver chooses it (`runtime.sizer`).
"""

from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError, UnknownLevelError
from coordinator.partition import batches, deliveries, graces, scans, timers, work
from coordinator.partition.outputs import Answer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine


def tick(m: "Machine", c: messages.Tick) -> None:
    """Graces, timers, stored work, scans, what these led to, then deliveries; each within a quota of its own."""
    if c.tick != m.state.tick + 1:
        return
    m.state.tick = c.tick
    timers_max = _clamp(c.timers, limits.TICK_TIMERS_MAX)
    work_max = _clamp(c.work, limits.TICK_WORK_MAX)
    single_max = _clamp(c.single, limits.TICK_SINGLE_MAX)
    rows_max = timers_max + work_max + single_max + limits.ROWS_PER_RECORD_MAX
    m.sends_left = rows_max * limits.OUTBOX_PER_ROW_MAX + 2 * limits.PENDING_BATCHES_MAX
    graces.fire(m)  # before any row is looked at: its position is this record's
    timers.fire(m, timers_max)
    m.tick_filled = m.rows_left <= 0
    m.rows_left = work_max
    if m.state.works:
        work.drain_stored(m)
    work_left = m.rows_left
    if m.pending and scans.scan(m, _clamp(c.sweep, limits.TICK_SWEEP_MAX), single_max):
        m.tick_filled = True
    m.rows_left = work_left
    work.drain(m)
    if m.rows_left <= 0:
        m.tick_filled = True
    m.rows_left += limits.ROWS_PER_RECORD_MAX
    deliveries.dispatch(m)
    m.rows_left = 0
    batches.tell_due(m)
    batches.forget(m)


def _clamp(wanted: int, most: int) -> int:
    return max(1, min(wanted, most))


def wanted(m: "Machine", now: int) -> bool:
    """Whether a tick appended at this time would find anything to do."""
    due = next_due(m, now)
    return due is not None and due <= now


def next_due(m: "Machine", now: int) -> int | None:
    """When the next tick is worth appending: `now` when at once, None when nothing waits for one."""
    state = m.state
    if state.works or m.open_lanes:
        return now
    dues = [timer] if (timer := m.store.next_timer()) is not None else []
    for pending in m.pending:
        if not pending.rests:
            budget = pending.rate_budget(now)
            if budget is None:
                return now
            dues.append(now if budget else now + limits.RATE_INTERVAL_US)
    if (grace := graces.next_due(m)) is not None:
        dues.append(grace)
    dues += [state.told_at + limits.PROGRESS_INTERVAL_US for state in m.owing.values()]
    return min(dues, default=None)


def sweeps_on(m: "Machine") -> bool:
    """Whether a scan has so far to go that there is work for two more ticks at least."""
    return any(
        not pending.rests
        and pending.state.rate is None
        and pending.state.below - pending.state.cursor > 3 * limits.TICK_SWEEP_MAX
        for pending in m.pending
    )


def level(m: "Machine", c: messages.Level) -> Answer:
    """Raise the schema level; this build stops at one that it does not know, so that a newer can go on."""
    if c.level > limits.SCHEMA_LEVEL:
        raise UnknownLevelError(
            f"partition {m.state.partition} was raised to schema level {c.level} at position {m.position}; this "
            f"build knows up to {limits.SCHEMA_LEVEL}, so start one that knows it"
        )
    if c.level < m.state.level:
        raise CallerError(f"the partition is at level {m.state.level} and cannot go back to {c.level}")
    m.state.level = c.level
    return Answer(m.position, 200, detail=f"level {c.level}")
