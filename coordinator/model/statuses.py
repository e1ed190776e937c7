"""Statuses of an invocation and every transition between them, as data.

The status names are Restate's. `TRANSITIONS` is the one place that says which event may happen in which
status and what becomes of the row; the diagram in the documentation and the answers of the API are derived
from it, and so is the set of statuses that an action may act on (`acts_on`).
"""

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple


class Status(IntEnum):
    """Where an invocation stands. The numbers are stored; they are never reused."""

    SCHEDULED = 0
    PENDING = 1
    READY = 2
    RUNNING = 3
    BACKING_OFF = 4
    SUSPENDED = 5
    PAUSED = 6
    COMPLETED = 7


class Outcome(IntEnum):
    """How a completed invocation ended. Stored; never reused."""

    SUCCESS = 0
    FAILURE = 1
    CANCELLED = 2
    KILLED = 3


class Action(StrEnum):
    """What an operator may ask of one invocation or, as a batch, of many."""

    CANCEL = "cancel"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    RESTART_AS_NEW = "restart-as-new"
    COUNT = "count"


ACTIONS: Final = tuple(str(action) for action in Action)


class Event(StrEnum):
    """What may happen to one invocation beside the actions of operators."""

    DUE = "due"
    """The time of a scheduled start, of a retry, or of the end of a sleep has come."""
    KEY_GRANTED = "key granted"
    """It is first in its key's queue and the key is free."""
    WOKEN = "woken"
    """What a suspended invocation waits for has arrived."""
    STARTED = "started"
    SUSPENDED = "suspended"
    RELEASED = "released"
    """Nobody runs the attempt any more; it is to be delivered again."""
    FAILED = "failed"
    """An attempt failed and is to be retried."""
    GAVE_UP = "gave up"
    """An attempt failed and the retry policy pauses the invocation."""
    COMPLETED = "completed"
    EXPIRED = "expired"
    """Its retention is over."""


class Counter(StrEnum):
    """What a batch counts for each match; exactly one for each (the conservation law: `messages.Tally`)."""

    ENDED = "ended"
    APPLIED = "applied"
    SIGNALLED = "signalled"
    ENDED_BY_OTHER = "ended_by_other"
    ALREADY_SIGNALLED = "already_signalled"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"


class Change(NamedTuple):
    """What a transition makes of a row. `to` None: the row is removed."""

    to: Status | None
    outcome: Outcome | None = None
    counter: Counter | None = None
    """For actions: what a batch counts when it takes effect so."""
    makes_another: bool = False
    """Another invocation comes of it, by a message of its own."""


NAMES: Final = {status: status.name.lower().replace("_", "-") for status in Status}
"""Status → the name that users know: `backing-off`."""
BY_NAME: Final = {name: status for status, name in NAMES.items()}
OUTCOME_NAMES: Final = {outcome: outcome.name.lower() for outcome in Outcome}
OUTCOME_BY_NAME: Final = {name: outcome for outcome, name in OUTCOME_NAMES.items()}

_S, _A, _E = Status, Action, Event
_LIVE: Final = tuple(status for status in Status if status is not Status.COMPLETED)

_killed = Change(_S.COMPLETED, Outcome.KILLED, Counter.ENDED)
_cancelled = Change(_S.COMPLETED, Outcome.CANCELLED, Counter.ENDED)
_signalled = Change(_S.READY, counter=Counter.SIGNALLED)
_applied = {status: Change(status, counter=Counter.APPLIED) for status in Status}

TRANSITIONS: Final[dict[tuple[Status, Action | Event], Change]] = {
    # time
    (_S.SCHEDULED, _E.DUE): Change(_S.READY),  # or PENDING while its key is held
    (_S.BACKING_OFF, _E.DUE): Change(_S.READY),
    (_S.SUSPENDED, _E.DUE): Change(_S.READY),  # a sleep is over
    (_S.COMPLETED, _E.EXPIRED): Change(None),
    # keys
    (_S.PENDING, _E.KEY_GRANTED): Change(_S.READY),
    # what it waits for
    (_S.SUSPENDED, _E.WOKEN): Change(_S.READY),
    # reports of the participant that runs it; a report may overtake the one before it
    # and may be sent twice; what was imported as running is delivered as it stands
    **{(s, _E.STARTED): Change(_S.RUNNING) for s in (_S.READY, _S.RUNNING)},
    **{(s, _E.SUSPENDED): Change(_S.SUSPENDED) for s in (_S.READY, _S.RUNNING)},
    **{(s, _E.RELEASED): Change(_S.READY) for s in (_S.READY, _S.RUNNING)},
    **{(s, _E.FAILED): Change(_S.BACKING_OFF) for s in (_S.READY, _S.RUNNING)},
    **{(s, _E.GAVE_UP): Change(_S.PAUSED) for s in (_S.READY, _S.RUNNING)},
    **{(s, _E.COMPLETED): Change(_S.COMPLETED) for s in (_S.READY, _S.RUNNING)},
    # actions
    **{(s, _A.KILL): _killed for s in _LIVE},
    **{(s, _A.CANCEL): _cancelled for s in (_S.SCHEDULED, _S.PENDING)},
    (_S.RUNNING, _A.CANCEL): Change(_S.RUNNING, counter=Counter.SIGNALLED),
    **{(s, _A.CANCEL): _signalled for s in (_S.READY, _S.BACKING_OFF, _S.SUSPENDED, _S.PAUSED)},
    **{
        (s, _A.PAUSE): Change(_S.PAUSED, counter=Counter.APPLIED)
        for s in (_S.READY, _S.RUNNING, _S.BACKING_OFF, _S.SUSPENDED)
    },
    **{(s, _A.RESUME): Change(_S.READY, counter=Counter.APPLIED) for s in (_S.BACKING_OFF, _S.PAUSED)},
    (_S.COMPLETED, _A.PURGE): Change(None, counter=Counter.APPLIED),
    (_S.COMPLETED, _A.RESTART_AS_NEW): Change(_S.COMPLETED, counter=Counter.APPLIED, makes_another=True),
    **{(s, _A.COUNT): _applied[s] for s in Status},
}

UNCHANGED: Final = frozenset((s, _A.RESUME) for s in (_S.READY, _S.RUNNING, _S.SUSPENDED))
"""Asked singly these are answered 200 and change nothing; a batch without a status leaves them out."""


def acts_on(action: Action) -> tuple[Status, ...]:
    """The statuses in which `action` takes effect, in the order of their numbers."""
    return tuple(status for status in Status if (status, action) in TRANSITIONS)
