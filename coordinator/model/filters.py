"""Filters: which invocations a batch or a query means, defined once and evaluated twice.

`predicate` evaluates a filter on a row in Python, `where` writes the same condition as SQL over columns of
the same names. Both must agree on every row, or the set-based path of a batch would differ from the
single one; the tests hold them against each other on random pairs. The rules that make that possible:
comparisons only, no functions of the locale, text compared by code points (SQLite's BINARY collation on
UTF-8 equals Python's `==`), and null never matches.

A filter reads stored values of one row and nothing else.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.invocation import Invocation, ServiceType
from coordinator.model.scalars import Time
from coordinator.model.statuses import BY_NAME, NAMES, OUTCOME_BY_NAME, Action, Outcome, Status, acts_on

Predicate = Callable[[Invocation], bool]


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A conjunction of conditions; what is None does not restrict. Times are microseconds since the epoch.

    `before` is `<`, `after` is `>=`. `all` restricts nothing: it is the word without which an otherwise
    empty filter is refused.
    """

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    deployment: str | None = None
    target: str | None = None
    """As typed by an operator: `Service`, `Service/handler`, `Object/key`, `Object/key/handler`. What follows
    the name is a handler on services and a key on keyed targets, decided row by row."""
    status: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    created_before: Time | None = None
    created_after: Time | None = None
    modified_before: Time | None = None
    modified_after: Time | None = None
    all: bool = False
    killed_by: str | None = None
    """Request id of a batch: only what it has ended itself by killing, not what that took with it."""
    failed_of: str | None = None
    """Request id of a batch that is over: only what it has counted as failed."""


class Resolved(Filter, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A filter as one partition reads it: the batches that it names are positions on that partition's log."""

    killed_at: tuple[int, ...] | None = None
    """Where the batch of `killed_by` killed; nothing where the partition does not know it."""
    failed_at: int | None = None
    """Where that of `failed_of` was in force, whose failed rows are its members; -1 as above."""
    asked_at: int | None = None
    """Only what the batch in force there has asked to cancel and has not ended."""


EMPTY: Final = Filter()
_TEXTS: Final = ("service", "handler", "key", "deployment")
_BATCHES: Final = ("killed_by", "failed_of")
_TIMES: Final = (
    ("created_before", "created_at", "<"),
    ("created_after", "created_at", ">="),
    ("modified_before", "modified_at", "<"),
    ("modified_after", "modified_at", ">="),
)


def check(filter: Filter, *, may_be_empty: bool = False) -> None:
    """Raise CallerError, naming the field, when the filter cannot be meant so."""
    if filter == EMPTY and not may_be_empty:
        raise CallerError("an empty filter matches nothing on purpose; say all: true to mean every one", field="filter")
    for name in (*_TEXTS, "target", *_BATCHES):
        text = getattr(filter, name)
        bound = limits.NAME_CHARS_MAX if name != "key" else limits.KEY_CHARS_MAX
        if name == "target":
            bound = 2 * limits.NAME_CHARS_MAX + limits.KEY_CHARS_MAX
        if text is not None and (len(text) > bound or "\0" in text or (text == "" and name != "key")):
            raise CallerError(f"filter.{name} must have 1 to {bound} characters and no NUL", field=f"filter.{name}")
    if filter.status is not None:
        if not filter.status:
            raise CallerError("filter.status must name at least one status", field="filter.status")
        for name in filter.status:
            if name not in BY_NAME:
                raise CallerError(f"filter.status has no {name!r}; {_instead_of(name)}", field="filter.status")
    if filter.ids is not None and not 1 <= len(filter.ids) <= limits.FILTER_IDS_MAX:
        raise CallerError(f"filter.ids must name 1 to {limits.FILTER_IDS_MAX} invocations", field="filter.ids")
    if filter.target is not None:
        target_parts(filter.target)


def _instead_of(name: str) -> str:
    """What to say for a status that there is none of. Tables show the outcome of what is completed, so it is tried."""
    if name in OUTCOME_BY_NAME:
        return f"{name} is an outcome, of invocations whose status is completed"
    return f"the statuses are {', '.join(BY_NAME)}"


def target_parts(target: str) -> tuple[str, str | None, str | None]:
    """Split a target into its service, what follows it, and the handler after a key.

    A key may itself hold slashes when a handler follows it: the first part is the service, the last the
    handler. Raises CallerError when the service or the handler is empty.
    """
    service, slash, rest = target.partition("/")
    if not service or (slash and not rest):
        raise CallerError(
            f"{target!r} is no target; write Service, Service/handler or Object/key/handler", field="filter.target"
        )
    if not slash:
        return service, None, None
    key, slash, handler = rest.rpartition("/")
    if not slash:
        return service, rest, None
    if not handler:
        raise CallerError(f"{target!r} is no target: nothing follows its last slash", field="filter.target")
    return service, key, handler


def with_statuses_of(filter: Filter, action: Action) -> Filter:
    """The filter as `action` reads it: without a status it means those that the action may act on."""
    if filter.status is not None:
        return filter
    names = tuple(NAMES[status] for status in acts_on(action))
    return msgspec.structs.replace(filter, status=names)


def statuses(filter: Filter) -> frozenset[int]:
    """The statuses that the filter lets through, as stored."""
    if filter.status is None:
        return frozenset(int(status) for status in Status)
    return frozenset(int(BY_NAME[name]) for name in filter.status)


def predicate(filter: Filter) -> Predicate:
    """The filter as a function of a row. Whether a row failed (`failed_of`) is known beside it, and not tested here."""
    tests: list[Predicate] = []
    if filter.status is not None:
        wanted = statuses(filter)
        tests.append(lambda row: row.status in wanted)
    tests += [_text_test(name, value) for name in _TEXTS if (value := getattr(filter, name)) is not None]
    if filter.target is not None:
        tests.append(_target_test(filter.target))
    if filter.ids is not None:
        ids = frozenset(filter.ids)
        tests.append(lambda row: row.id in ids)
    for name, column, operator in _TIMES:
        bound = getattr(filter, name)
        if bound is not None:
            tests.append(_time_test(column, operator, bound))
    if isinstance(filter, Resolved):
        tests += _batch_tests(filter)
    if len(tests) == 1:
        return tests[0]
    return lambda row: all(test(row) for test in tests)


def _text_test(column: str, value: str) -> Predicate:
    return lambda row: getattr(row, column) == value


def _time_test(column: str, operator: str, bound: int) -> Predicate:
    if operator == "<":
        return lambda row: getattr(row, column) < bound
    return lambda row: getattr(row, column) >= bound


def _target_test(target: str) -> Predicate:
    service, second, handler = target_parts(target)
    plain = int(ServiceType.SERVICE)

    def test(row: Invocation) -> bool:
        if row.service != service:
            return False
        if second is None:
            return True
        if handler is not None:
            return row.type != plain and row.key == second and row.handler == handler
        return row.handler == second if row.type == plain else row.key == second

    return test


def _batch_tests(filter: Resolved) -> list[Predicate]:
    tests: list[Predicate] = []
    if filter.killed_at is not None:
        killed, positions = int(Outcome.KILLED), frozenset(filter.killed_at)
        tests.append(lambda row: row.outcome == killed and row.batch in positions)
    if filter.asked_at is not None:
        completed, asked_at = int(Status.COMPLETED), filter.asked_at
        tests.append(lambda row: row.status != completed and row.cancel_batch == asked_at)
    return tests


def where(filter: Filter) -> tuple[str, dict[str, Any]]:
    """The filter as an SQL condition over the row's columns and the values of its named parameters.

    The condition is `1` for a filter that restricts nothing. Parameters start with `f_`.
    """
    conditions: list[str] = []
    values: dict[str, Any] = {}

    def bind(name: str, value: Any) -> str:
        values[f"f_{name}"] = value
        return f":f_{name}"

    if filter.status is not None:
        conditions.append(f"status IN ({_numbers(statuses(filter))})")
    for name in _TEXTS:
        value = getattr(filter, name)
        if value is not None:
            conditions.append(f"{name} = {bind(name, value)}")
    if filter.target is not None:
        conditions.append(_target_where(filter.target, bind))
    if filter.ids is not None:
        places = ", ".join(bind(f"id{n}", value) for n, value in enumerate(filter.ids))
        conditions.append(f"id IN ({places})")
    for name, column, operator in _TIMES:
        bound = getattr(filter, name)
        if bound is not None:
            conditions.append(f"{column} {operator} {bind(name, bound)}")
    if isinstance(filter, Resolved):
        if filter.killed_at is not None:
            conditions.append(f"outcome = {int(Outcome.KILLED)} AND batch IN ({_numbers(filter.killed_at)})")
        if filter.asked_at is not None:
            conditions.append(
                f"status <> {int(Status.COMPLETED)} AND cancel_batch = {bind('asked_at', filter.asked_at)}"
            )
    return " AND ".join(conditions) or "1", values


def _target_where(target: str, bind: Callable[[str, Any], str]) -> str:
    service, second, handler = target_parts(target)
    condition = f"service = {bind('t_service', service)}"
    if second is None:
        return condition
    place, plain = bind("t_second", second), int(ServiceType.SERVICE)
    if handler is not None:
        return f"{condition} AND type <> {plain} AND key = {place} AND handler = {bind('t_handler', handler)}"
    return f"{condition} AND (CASE WHEN type = {plain} THEN handler ELSE key END) = {place}"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))
