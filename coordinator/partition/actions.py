"""What operators ask, of one invocation or through a batch: cancel, kill, pause, resume, purge, restart, count.

`row_effect` is what an action makes of the row itself, a pure function; `act` adds what follows for others.
Where an action applies is looked up in `statuses.TRANSITIONS`.
"""

from typing import TYPE_CHECKING

from coordinator.model import messages
from coordinator.model.effects import perform, plain_effect
from coordinator.model.errors import CallerError
from coordinator.model.invocation import (
    CANCEL,
    CHILDREN,
    HELD,
    STATE,
    CancelState,
    Invocation,
    status_name,
)
from coordinator.model.statuses import (
    ACTIONS,
    TRANSITIONS,
    UNCHANGED,
    Action,
    Counter,
    Status,
)
from coordinator.partition import deliveries, lifecycle, outbox, restarts
from coordinator.partition.outputs import Answer
from coordinator.partition.state import DELIVERIES
from coordinator.stores.port import Work, WorkKind

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_READY = int(Status.READY)
_PAUSED = int(Status.PAUSED)
_COMPLETED = int(Status.COMPLETED)


def act_on_one(m: "Machine", c: messages.Act) -> Answer:
    """An operator's action on one invocation."""
    if c.action not in ACTIONS:
        raise CallerError(f"action {c.action!r} is none of {', '.join(ACTIONS)}")
    action = Action(c.action)
    row = m.row_by_id(c.id)
    if row is None:
        return Answer(m.position, 404, c.id, detail=f"{c.id} is not there, or no longer")
    before = (Status(row.status), action)
    if before in UNCHANGED:
        return Answer(m.position, 200, c.id, status_name(row))
    if before not in TRANSITIONS:
        return Answer(m.position, 409, c.id, status_name(row), f"{c.id} is {status_name(row)}; {action} does not apply")
    if action is Action.COUNT:
        return Answer(m.position, 200, c.id, status_name(row))
    if action is Action.RESTART_AS_NEW:
        return restarts.restart_one(m, row)
    counter = act(m, row, action, at=m.now, position=m.position, deployment=c.deployment, single=True)
    code = 200 if counter in (Counter.ENDED, Counter.APPLIED) else 202
    return Answer(m.position, code, c.id, None if action is Action.PURGE else status_name(row))


def act(
    m: "Machine",
    row: Invocation,
    action: Action,
    *,
    at: int,
    position: int,
    deployment: str | None = None,
    single: bool = False,
    behalf: int | None = None,
) -> Counter:
    """Let an action take effect on a caught-up row, as of a time and position, and do what follows.

    The row is stamped with `position`; of a single action (`single`) no batch is noted on it. `behalf` is the batch,
    by position, that a single action goes back to: what follows is on its account too.
    """
    was, ties, cancel, batch, asked_by = row.status, row.ties, row.cancel, row.batch, row.cancel_batch
    counter = row_effect(row, action, at, position, deployment)
    if counter is None:
        lifecycle.remove(m, row)
        return Counter.APPLIED
    if single:
        row.batch = batch if row.status != _COMPLETED else None
        row.cancel_batch = asked_by if row.status != _COMPLETED else None
    cause = behalf if single else position
    m.store.save(row)
    if row.status == was and row.cancel == cancel:
        return counter
    if row.status == _COMPLETED:
        lifecycle.ended(m, row, ties, asked_by=asked_by, batch=cause)
    elif row.status == _PAUSED and ties & HELD:
        deliveries.take_back(m, row)
        m.store.save(row)
    elif row.cancel != cancel and row.cancel == CancelState.REQUESTED:
        m.todo.append(Work(0, WorkKind.TELL_CHILDREN, row.id, Action.CANCEL, batch=cause))
    elif row.cancel != cancel and ties & HELD:
        outbox.send(m, DELIVERIES, messages.Signal(id=row.id, attempt=row.attempt))
    elif row.status == _READY and was != _READY:
        m.made_ready.append(row)
    return counter


def row_effect(row: Invocation, action: Action, at: int, position: int, deployment: str | None) -> Counter | None:
    """What an action makes of the row itself: a pure function of both. None: the row is to be removed."""
    status = Status(row.status)
    if (status, action) not in TRANSITIONS:
        row.caught_up_to = position
        return Counter.NOT_APPLICABLE
    effect = plain_effect(action, status)
    if effect is not None:
        state = row.ties & STATE
        perform(effect, row, at, position)
        row.ties |= state
        return None if effect.removes else effect.counter
    if action is Action.RESTART_AS_NEW:  # what is made of it is another row's beginning (`restarts`)
        row.caught_up_to = position
        return Counter.APPLIED
    if action is Action.RESUME:
        if deployment is not None:
            row.deployment = deployment
        row.status, row.timer_at = _READY, None
        row.modified_at, row.caught_up_to, row.batch = at, position, position
        return Counter.APPLIED
    if row.cancel:  # it holds one open cancel
        row.caught_up_to = position
        return Counter.ALREADY_SIGNALLED
    row.ties |= CANCEL
    row.modified_at, row.caught_up_to, row.batch, row.cancel_batch = at, position, position, position
    if row.ties & CHILDREN:
        row.cancel = int(CancelState.REQUESTED)
    else:
        _surface(row)
    return Counter.SIGNALLED


def _surface(row: Invocation) -> None:
    """The row's part of telling the invocation itself: nobody runs it, so it is to start again."""
    row.cancel = int(CancelState.SIGNALLED)
    if not row.ties & HELD:
        row.status, row.timer_at = _READY, None


def surface_cancel(m: "Machine", row: Invocation) -> None:
    """Its children are back: tell the invocation itself."""
    was = row.status
    _surface(row)
    if row.ties & HELD:
        outbox.send(m, DELIVERIES, messages.Signal(id=row.id, attempt=row.attempt))
    elif was != _READY:
        m.made_ready.append(row)
