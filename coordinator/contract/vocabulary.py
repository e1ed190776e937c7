"""What a field may hold beyond its type: closed sets of words, forms and bounds, from where they are defined.

A decoder lets other values through; who receives them refuses them with a reason. They stand in the schemas
so that a producer can find out before it sends.
"""

from typing import Any, Final

import msgspec

from coordinator.model import ids, limits
from coordinator.model.invocation import ServiceType
from coordinator.model.journal import StepKind
from coordinator.model.statuses import ACTIONS, NAMES, OUTCOME_NAMES, Action, Outcome
from coordinator.model.times import END_US
from coordinator.requests.lifecycle import State
from coordinator.requests.state import PARTITION_STATES

Keywords = dict[str, Any]
"""Of JSON Schema, to be merged into the schema of the field, inside `items` into that of its elements."""


def _text(shortest: int, longest: int) -> Keywords:
    return {"minLength": shortest, "maxLength": longest}


_NAME: Final = _text(1, limits.NAME_CHARS_MAX)
_KEY: Final = _text(0, limits.KEY_CHARS_MAX)
_TIME: Final = {"minimum": 0, "maximum": END_US - 1}
_STATUSES: Final = list(NAMES.values())
_OUTCOMES: Final = list(OUTCOME_NAMES.values())
_ID: Final = {"pattern": f"^{ids.PREFIX}[0-9A-Za-z]{{{ids.ID_CHARS - len(ids.PREFIX)}}}$"}

RULES: Final[dict[str, Keywords]] = {
    # wherever a field has this name
    "*.id": _ID,
    "*.parent": _ID,
    "*.child": _ID,
    "*.request": _NAME,
    "*.service": _NAME,
    "*.handler": _NAME,
    "*.deployment": _NAME,
    "*.key": _KEY,
    "*.idempotency_key": _KEY,
    "*.type": {"enum": [int(type) for type in ServiceType]},
    # what is told of a submission repeats its id, fit or not
    "Progress.request": {},
    "RequestState.request": {},
    # words
    "Act.action": {"enum": list(ACTIONS)},
    "Batch.action": {"enum": list(ACTIONS)},
    "Submit.action": {"enum": list(ACTIONS)},
    "EndChildren.action": {"enum": [str(Action.CANCEL), str(Action.KILL)]},
    "Import.status": {"enum": _STATUSES},
    "Import.outcome": {"enum": _OUTCOMES},
    "ChildEnded.outcome": {"enum": _OUTCOMES},
    "Completed.outcome": {"enum": [name for outcome, name in OUTCOME_NAMES.items() if outcome != Outcome.KILLED]},
    "Progress.state": {"enum": sorted(PARTITION_STATES)},
    "RequestState.state": {"enum": [str(state) for state in State]},
    # filters and what goes with them
    "Filter.status": {"minItems": 1, "items": {"enum": _STATUSES}},
    "Filter.ids": {"minItems": 1, "maxItems": limits.FILTER_IDS_MAX},
    "Filter.target": _text(1, 2 * limits.NAME_CHARS_MAX + limits.KEY_CHARS_MAX),
    "Filter.created_before": _TIME,
    "Filter.created_after": _TIME,
    "Filter.modified_before": _TIME,
    "Filter.modified_after": _TIME,
    "Submit.rate": {"minimum": 0},
    "Guard.max": {"minimum": 0},
    "Guard.expect": {"minimum": 0},
    # bounds
    "Entry.outcome": {"enum": _OUTCOMES},
    "Suspended.awaiting": {"maxItems": limits.AWAITED_MAX},
    "Serve.lanes": {"maxItems": limits.LANES_MAX, "items": _text(1, limits.NAME_CHARS_MAX + 1)},
    "Step.kind": {"enum": [int(kind) for kind in StepKind]},
    "Entry.kind": {"enum": [int(kind) for kind in StepKind]},
    "Steps.steps": {"maxItems": limits.STEPS_PER_REPORT_MAX},
    "EndChildren.children": {"maxItems": limits.CHILDREN_PER_RECORD_MAX, "items": _ID},
}


def rule(struct: type[msgspec.Struct], field: str) -> Keywords:
    """What holds for a field of a struct; a rule of its own goes before one for its name."""
    own = RULES.get(f"{struct.__name__}.{field}")
    return own if own is not None else RULES.get(f"*.{field}", {})
