"""The journal: what a handler does, entered step by step.

A step and what it brings about are one commit: a call's edge and its invocation, a state entry and its value. A step
that is in the journal was taken, so a report that comes twice, or a later attempt that repeats it, adds nothing.

What cannot be done for good (too many children, too deep, a call of one that is being cancelled) is entered as a call
that has failed, for the handler to see where it awaits it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import CHILDREN, HELD, STATE, CancelState, Invocation, ServiceType, target_name
from coordinator.model.journal import Call, Entry, Step, StepKind
from coordinator.model.statuses import OUTCOME_NAMES, Action, Outcome
from coordinator.partition import contexts, invoke, outbox, reports
from coordinator.partition.outputs import Answer
from coordinator.partition.state import DELIVERIES

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_HEADER_BYTES: Final = 10
"""At most five before each of a header's two texts."""


def steps(m: "Machine", c: messages.Steps) -> Answer:
    """A running handler has taken steps."""
    if len(c.steps) > limits.STEPS_PER_REPORT_MAX:
        raise CallerError(f"a report may hold {limits.STEPS_PER_REPORT_MAX} steps; send more reports")
    if c.first + len(c.steps) > limits.STEPS_MAX:
        raise CallerError(f"an invocation may take {limits.STEPS_MAX} steps; let it call others for a part of them")
    row = m.row_by_id(c.id)
    for step in c.steps:
        _check(row, step)
    if row is None or row.attempt != c.attempt or not row.ties & HELD:
        return reports.stale(m, c)
    for number, step in enumerate(c.steps, c.first):
        if m.store.journal_entry(row.seq, number) is None:
            m.store.journal_put(row.seq, _KINDS[StepKind(step.kind)](m, row, number, step))
    m.save(row)
    return Answer(m.position, 200, c.id)


def _check(row: Invocation | None, step: Step) -> None:
    """Raise CallerError unless the step is whole and fits into records."""
    if step.kind not in _KINDS:
        raise CallerError(f"step kind {step.kind} is none of {', '.join(f'{kind} ({kind.name})' for kind in StepKind)}")
    size = len(step.value or b"")
    if size > limits.CALL_BYTES_MAX:
        raise CallerError(f"the result of a step may have {limits.CALL_BYTES_MAX} bytes; this one has {size}")
    if len(step.name) > limits.KEY_CHARS_MAX:
        raise CallerError(f"the name of a step may have {limits.KEY_CHARS_MAX} characters")
    if step.kind in (StepKind.CALL, StepKind.SEND):
        if step.call is None:
            raise CallerError("a step that calls or sends says whom, in its call")
        _check_call(step.call)
    elif step.kind in (StepKind.SET, StepKind.CLEAR):
        if not step.name:  # state is told from a name on, and no name comes before all others
            raise CallerError("a step that sets or clears an entry of the state names it")
        if row is not None and (row.type == ServiceType.SERVICE or row.shared):
            raise CallerError(f"{row.service}/{row.handler} may not change state: it is not a key's exclusive handler")
    elif step.kind == StepKind.CANCEL:
        ids.partition_key_of(step.name)


def _check_call(call: Call) -> None:
    invoke.check_names(call.service, call.handler, call.key, call.type, call.idempotency_key)
    size = len(call.input or b"")
    for name, value in call.headers.items():
        size += len(name.encode()) + len(value.encode()) + _HEADER_BYTES
    if size > limits.CALL_BYTES_MAX:
        raise CallerError(f"input and headers of a call may have {limits.CALL_BYTES_MAX} bytes, and these have {size}")


# -- one function for each kind ------------------------------------------------------------------------------


def _call(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    call = step.call
    assert call is not None
    child = ids.child_id(row.id, number, call)
    entry = Entry(step=number, kind=step.kind, name=target_name(call.service, call.key, call.handler), child=child)
    depth = m.store.payload(row.seq).depth + 1
    if row.cancel in (CancelState.REQUESTED, CancelState.SIGNALLED):
        # Asked for before the handler knew. Made now, the call would outlive what is undone because of it.
        entry.outcome, entry.withheld = OUTCOME_NAMES[Outcome.CANCELLED], row.cancel == CancelState.REQUESTED
        if not entry.withheld:
            _tell(m, row, entry)
        return entry
    if row.children >= limits.CHILDREN_MAX or depth > limits.DEPTH_MAX:
        entry.outcome, entry.failure = OUTCOME_NAMES[Outcome.FAILURE], _too_many(row, depth)
        _tell(m, row, entry)
        return entry
    entry.done = False
    row.children += 1
    row.ties |= CHILDREN
    m.store.edge_add(row.id, child, number)
    _create(m, row, child, call, depth=depth, detached=False)
    return entry


def _tell(m: "Machine", row: Invocation, entry: Entry) -> None:
    outbox.send(m, DELIVERIES, messages.Notify(id=row.id, attempt=row.attempt, entry=entry))


def _too_many(row: Invocation, depth: int) -> str:
    if depth > limits.DEPTH_MAX:
        return f"a call tree may be {limits.DEPTH_MAX} deep; send it instead of calling it"
    return f"{row.id} has called {limits.CHILDREN_MAX} others, as many as one may; let those it calls call some"


def _send(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    call = step.call
    assert call is not None
    child = ids.child_id(row.id, number, call)
    _create(m, row, child, call, depth=0, detached=True)
    return Entry(step=number, kind=step.kind, name=target_name(call.service, call.key, call.handler), child=child)


def _create(m: "Machine", row: Invocation, child: str, call: Call, *, depth: int, detached: bool) -> None:
    message = messages.Invoke(
        id=child,
        service=call.service,
        handler=call.handler,
        key=call.key,
        type=call.type,
        shared=call.shared,
        input=call.input,
        headers=call.headers,
        due_at=m.now + call.delay if call.delay else None,
        idempotency_key=call.idempotency_key,
        retention=limits.RETENTION_DEFAULT_US if call.retention is None else call.retention,
        parent=row.id,
        detached=detached,
        depth=depth,
    )
    outbox.send_to_partition(m, outbox.partition_of(m, child), message)


def _sleep(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    return Entry(step=number, kind=step.kind, due_at=m.now + step.duration)


def _set(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    space = contexts.space(m, row)
    assert space is not None
    m.store.value_put(row.service, space, step.name, step.value or b"")
    if row.type == ServiceType.WORKFLOW:
        row.ties |= STATE
    return Entry(step=number, kind=step.kind, name=step.name)


def _clear(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    space = contexts.space(m, row)
    assert space is not None
    m.store.value_remove(row.service, space, step.name)
    return Entry(step=number, kind=step.kind, name=step.name)


def _cancel(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    act = messages.Act(action=Action.CANCEL, id=step.name)
    outbox.send_to_partition(m, outbox.partition_of(m, step.name), act)
    return Entry(step=number, kind=step.kind, name=step.name)


def _surfaced(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    if row.cancel == CancelState.SIGNALLED:
        row.cancel = int(CancelState.SURFACED)
    return _recorded(m, row, number, step)


def _recorded(m: "Machine", row: Invocation, number: int, step: Step) -> Entry:
    """What concerns only the handler itself."""
    return Entry(
        step=number, kind=step.kind, name=step.name, value=step.value, failure=step.failure, number=step.number
    )


_KINDS: Final[dict[int, Callable[["Machine", Invocation, int, Step], Entry]]] = {
    StepKind.CALL: _call,
    StepKind.SEND: _send,
    StepKind.SLEEP: _sleep,
    StepKind.RUN: _recorded,
    StepKind.GET: _recorded,
    StepKind.SET: _set,
    StepKind.CLEAR: _clear,
    StepKind.RACE: _recorded,
    StepKind.SURFACED: _surfaced,
    StepKind.CANCEL: _cancel,
}
