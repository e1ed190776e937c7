"""Submissions as they come off the log: whether one repeats another, and whether it can be meant so.

The HTTP service checks before it appends, but anyone may produce to `requests` from the contract alone. What
those checks would have turned away is refused here, on sight and with the reason, as an ordinary state of
the request; no partition hears of it.
"""

from typing import Final

from coordinator.model import filters, limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import Filter
from coordinator.model.messages import Guard, Submit
from coordinator.model.statuses import Action
from coordinator.model.times import END_US

_BODY: Final = ("action", "filter", "reason", "guard", "rate", "deployment", "dry_run", "grace", "untouched")
_TIMES: Final = ("created_before", "created_after", "modified_before", "modified_after")


def repeats(first: Submit, other: Submit) -> bool:
    """Whether `other` asks for the same as `first`, so that it is no conflict under the same request id.

    The bodies as sent are compared where both are known, because an age in them became a different time on
    each submission; else the fields are. Who asks makes no difference.
    """
    if first.body_digest is not None and other.body_digest is not None:
        return first.body_digest == other.body_digest
    return all(getattr(first, name) == getattr(other, name) for name in _BODY)


def objection(submit: Submit) -> str | None:
    """Why the submission cannot be taken, one sentence; None when it can."""
    try:
        _check(submit)
    except CallerError as error:
        return str(error)
    return None


def _check(submit: Submit) -> None:
    if not 1 <= len(submit.request) <= limits.NAME_CHARS_MAX:
        raise CallerError(f"request_id must have 1 to {limits.NAME_CHARS_MAX} characters", field="request_id")
    if submit.action not in {action.value for action in Action}:
        known = ", ".join(Action)
        raise CallerError(f"there is no action {submit.action!r}; the actions are {known}", field="action")
    filters.check(submit.filter)
    _check_times(submit.filter)
    if submit.guard is not None:
        _check_guard(submit.guard)
    if submit.grace is not None:
        check_grace(submit.action, submit.grace)
    if submit.rate is not None and submit.rate < 0:
        raise CallerError("rate must be a number of matches a second, or 0 for no limit", field="rate")


def check_grace(action: str, grace_us: int) -> None:
    """Raise CallerError when it cannot be meant."""
    if action != Action.CANCEL:
        raise CallerError(
            "only a cancel has a grace: the time after which what it has not ended is killed", field="grace"
        )
    if grace_us > limits.GRACE_MAX_US:
        raise CallerError("a grace may last seven days", field="grace")


def _check_times(filter: Filter) -> None:
    for name in _TIMES:
        time = getattr(filter, name)
        if time is not None and not 0 <= time < END_US:
            raise CallerError(f"filter.{name} must lie in the years 1970 to 9999", field=f"filter.{name}")


def _check_guard(guard: Guard) -> None:
    if (guard.max is None) == (guard.expect is None):
        raise CallerError("a guard has either max or expect", field="guard")
    if min(guard.max or 0, guard.expect or 0) < 0:
        raise CallerError("a guard's number cannot be negative", field="guard")
