"""What an action does to a row of its own, as data, evaluated in Python and written as SQL.

An effect is a pure function of one row and the batch (or single action) behind it: its time, its position.
What follows for other rows (handing a key on, telling parents and children) is not here; it is a consequence
and happens where the record is that performs it.
"""

from enum import Enum
from typing import Any, Final, NamedTuple

from coordinator.model.invocation import Invocation, Ties
from coordinator.model.statuses import TRANSITIONS, Action, Counter, Outcome, Status


class Term(Enum):
    """A value that is known only when the effect happens."""

    AT = ":e_at"
    """Time of the batch: the append time of the record that brought it in force."""
    EXPIRY = ":e_at + retention"
    POSITION = ":e_position"


Value = Term | int | None


class Effect(NamedTuple):
    """What becomes of a row, and what a batch counts for it."""

    counter: Counter
    sets: tuple[tuple[str, Value], ...] = ()
    removes: bool = False

    @property
    def only_stamps(self) -> bool:
        """Whether it leaves everything but the stamp as it was."""
        return len(self.sets) == 1


_STAMP: Final = ("caught_up_to", Term.POSITION)


def _ending(outcome: Outcome) -> Effect:
    return Effect(
        Counter.ENDED,
        (
            ("status", int(Status.COMPLETED)),
            ("outcome", int(outcome)),
            ("modified_at", Term.AT),
            ("completed_at", Term.AT),
            ("timer_at", Term.EXPIRY),
            ("cancel", 0),
            ("cancel_batch", None),
            ("ties", int(Ties.NONE)),
            ("batch", Term.POSITION),
            _STAMP,
        ),
    )


KILLED: Final = _ending(Outcome.KILLED)
CANCELLED: Final = _ending(Outcome.CANCELLED)
PAUSED: Final = Effect(
    Counter.APPLIED,
    (
        ("status", int(Status.PAUSED)),
        ("modified_at", Term.AT),
        ("timer_at", None),
        ("batch", Term.POSITION),
        _STAMP,
    ),
)
REMOVED: Final = Effect(Counter.APPLIED, removes=True)
COUNTED: Final = Effect(Counter.APPLIED, (_STAMP,))
NOT_APPLICABLE: Final = Effect(Counter.NOT_APPLICABLE, (_STAMP,))
ENDED_BY_OTHER: Final = Effect(Counter.ENDED_BY_OTHER, (_STAMP,))


def plain_effect(action: Action, status: Status) -> Effect | None:
    """The effect of `action` on a row without ties in this status.

    None where more than the row itself is concerned even then (a resumed invocation joins those to be
    started, a cancelled one must be signalled, of a restarted one another is made), so that only the single path
    may perform it.
    """
    change = TRANSITIONS.get((status, action))
    if change is None:
        return NOT_APPLICABLE
    if action is Action.COUNT:
        return COUNTED
    if change.to is None:
        return REMOVED
    if change.outcome is not None:
        return KILLED if change.outcome is Outcome.KILLED else CANCELLED
    return PAUSED if change.to is Status.PAUSED else None


def perform(effect: Effect, row: Invocation, at: int, position: int) -> None:
    """Set the row's columns as the effect says. Removing is the caller's part."""
    for column, value in effect.sets:
        if value is Term.AT:
            setattr(row, column, at)
        elif value is Term.POSITION:
            setattr(row, column, position)
        elif value is Term.EXPIRY:
            setattr(row, column, at + row.retention)
        else:
            setattr(row, column, value)


def set_clause(effect: Effect) -> str:
    """The same as the body of an SQL `SET`, with the parameters `e_at` and `e_position`."""
    return ", ".join(f"{column} = {_sql(value)}" for column, value in effect.sets)


def parameters(at: int, position: int) -> dict[str, Any]:
    """Values for the parameters of `set_clause`."""
    return {"e_at": at, "e_position": position}


def _sql(value: Value) -> str:
    if isinstance(value, Term):
        return value.value
    return "NULL" if value is None else str(value)
