"""What participants report of an attempt.

A report counts only for the newest attempt while a participant holds it; any other is answered as stale and
changes nothing. Which report may come in which status is looked up in `statuses.TRANSITIONS`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import (
    HELD,
    PICKY,
    STATE,
    WOKEN,
    CancelState,
    Invocation,
)
from coordinator.model.journal import Entry, StepKind
from coordinator.model.statuses import (
    OUTCOME_BY_NAME,
    TRANSITIONS,
    Event,
    Outcome,
    Status,
)
from coordinator.partition import contexts, deliveries, lifecycle
from coordinator.partition.outputs import Answer
from coordinator.stores.port import Timer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_RUNNING = int(Status.RUNNING)
_BACKING_OFF = int(Status.BACKING_OFF)
_SUSPENDED = int(Status.SUSPENDED)
_PAUSED = int(Status.PAUSED)
_COMPLETED = int(Status.COMPLETED)


def _reported(m: "Machine", c: messages.Report, event: Event) -> Invocation | None:
    """The row, when the report is of its newest attempt and may happen in its status."""
    row = m.row_by_id(c.id)
    if row is None or row.attempt != c.attempt or not row.ties & HELD:
        return None
    return row if (Status(row.status), event) in TRANSITIONS else None


def started(m: "Machine", c: messages.Started) -> Answer:
    """A participant runs it."""
    row = _reported(m, c, Event.STARTED)
    if row is None:
        return stale(m, c)
    row.status = _RUNNING
    if row.deployment is None:
        row.deployment = c.deployment
    m.save(row)
    return Answer(m.position, 200, c.id)


def suspended(m: "Machine", c: messages.Suspended) -> Answer:
    """The participant has let go of it until something arrives."""
    if len(c.awaiting) > limits.AWAITED_MAX:
        raise CallerError(f"an invocation may wait for the first of {limits.AWAITED_MAX} steps, not {len(c.awaiting)}")
    row = _reported(m, c, Event.SUSPENDED)
    if row is None:
        return stale(m, c)
    crossed = _await_steps(m, row, c.awaiting) if c.awaiting else bool(row.ties & WOKEN)
    deliveries.let_go(m, row)
    row.status = _SUSPENDED
    if crossed or (row.cancel == CancelState.SIGNALLED and not c.cancelled):
        lifecycle.make_ready(m, row)  # what it waits for, or the signal, crossed with this report: deliver it again
    m.save(row)
    return Answer(m.position, 200, c.id)


def _await_steps(m: "Machine", row: Invocation, steps: Sequence[int]) -> bool:
    """Note what it waits for, and until when it sleeps at most; whether one of them is over already.

    Raises CallerError when one is nothing that can be waited for; nothing is changed then.
    """
    entries = [_awaited_entry(m, row, step) for step in steps]
    if any(contexts.is_over(m, row, entry) for entry in entries):
        return True
    for entry in entries:
        if entry.due_at is None:
            entry.awaited = row.attempt
            m.store.journal_put(row.seq, entry)
            row.ties |= PICKY
    sleeps = [entry.due_at for entry in entries if entry.due_at is not None]
    if sleeps:
        row.timer_at = min(sleeps)
        m.store.timer_add(Timer(row.timer_at, row.seq, row.seq))
    return False


def _awaited_entry(m: "Machine", row: Invocation, step: int) -> Entry:
    entry = m.store.journal_entry(row.seq, step)
    if entry is None or entry.kind not in (StepKind.CALL, StepKind.SLEEP):
        raise CallerError(f"step {step} of {row.id} is no call or sleep in its journal; report it before awaiting it")
    return entry


def released(m: "Machine", c: messages.Released) -> Answer:
    """Nobody runs the attempt any more."""
    row = _reported(m, c, Event.RELEASED)
    if row is None:
        return stale(m, c)
    deliveries.let_go(m, row)
    if c.failure is not None:
        row.retry += 1
        row.last_failure = c.failure[: limits.FAILURE_CHARS_MAX]
    lifecycle.make_ready(m, row)
    m.save(row)
    return Answer(m.position, 200, c.id)


def backing_off(m: "Machine", c: messages.BackingOff) -> Answer:
    """The attempt failed and will be retried."""
    row = _reported(m, c, Event.FAILED)
    if row is None:
        return stale(m, c)
    deliveries.let_go(m, row)
    row.status = _BACKING_OFF
    row.timer_at = c.retry_at
    row.retry = c.retry
    row.last_failure = c.failure[: limits.FAILURE_CHARS_MAX]
    m.store.timer_add(Timer(c.retry_at, row.seq, row.seq))
    m.save(row)
    return Answer(m.position, 200, c.id)


def gave_up(m: "Machine", c: messages.Paused) -> Answer:
    """The attempt failed and the retry policy pauses it."""
    row = _reported(m, c, Event.GAVE_UP)
    if row is None:
        return stale(m, c)
    deliveries.let_go(m, row)
    row.status = _PAUSED
    row.retry = c.retry
    row.last_failure = c.failure[: limits.FAILURE_CHARS_MAX]
    m.save(row)
    return Answer(m.position, 200, c.id)


def completed(m: "Machine", c: messages.Completed) -> Answer:
    """The handler has ended."""
    outcome = OUTCOME_BY_NAME.get(c.outcome)
    if outcome is None or outcome is Outcome.KILLED:
        raise CallerError(f"outcome {c.outcome!r} is none that a participant reports: success, failure, cancelled")
    if len(c.output or b"") > limits.CALL_BYTES_MAX:
        raise CallerError(f"an output may have {limits.CALL_BYTES_MAX} bytes; this one has {len(c.output or b'')}")
    row = _reported(m, c, Event.COMPLETED)
    if row is None:
        return stale(m, c)
    deliveries.let_go(m, row)
    if c.output is not None:
        payload = m.store.payload(row.seq)
        payload.output = c.output
        m.store.save_payload(row.seq, payload)
    if c.failure is not None:
        row.last_failure = c.failure[: limits.FAILURE_CHARS_MAX]
    ties, row.ties = row.ties, row.ties & STATE
    asked_by, row.cancel, row.cancel_batch = row.cancel_batch, 0, None
    row.status = _COMPLETED
    row.outcome = int(outcome)
    row.completed_at = m.now
    row.timer_at = m.now + row.retention
    m.save(row)
    lifecycle.ended(m, row, ties, asked_by=asked_by, batch=None, output=c.output)
    return Answer(m.position, 200, c.id)


def stale(m: "Machine", c: messages.Report) -> Answer:
    """A report that changes nothing: of an older attempt, or of one that is over."""
    return Answer(m.position, 409, c.id, detail=f"attempt {c.attempt} of {c.id} is over; drop it")
