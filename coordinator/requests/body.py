"""A batch as users ask for it: the bodies of the HTTP API, and the submission that one becomes.

Strict on purpose. A misspelt filter that was overlooked would widen the batch, and so would a null that some
script meant to be a service's name: both are refused, with the field's name.
"""

import hashlib
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from coordinator.model import filters, ids, limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import Filter
from coordinator.model.messages import Guard, Submit
from coordinator.model.statuses import ACTIONS, BY_NAME, Action
from coordinator.model.times import parse_duration, parse_when
from coordinator.requests.submission import check_grace

TEXTS: Final = ("target", "service", "handler", "key", "deployment")
"""Conditions of a filter that are texts."""
TIMES: Final = ("created_before", "created_after", "modified_before", "modified_after")
"""Conditions that are times or ages."""

# What is said here of a type is for the OpenAPI document; but for counts it is checked below, in better words.
Meta = msgspec.Meta
Count = Annotated[int, Meta(ge=0, le=limits.COUNT_MAX)]
Text = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": limits.NAME_CHARS_MAX})]
Key = Annotated[str, Meta(extra_json_schema={"maxLength": limits.KEY_CHARS_MAX})]
Target = Annotated[str, Meta(description="Service, Service/handler, Object/key or Object/key/handler")]
Time = Annotated[str, Meta(description="RFC 3339, or an age that is counted back from now: 90s, 2h, 7d")]
StatusName = Annotated[str, Meta(extra_json_schema={"enum": list(BY_NAME)})]
Ids = Annotated[list[str], Meta(extra_json_schema={"minItems": 1, "maxItems": limits.FILTER_IDS_MAX})]
ActionName = Annotated[str, Meta(extra_json_schema={"enum": list(ACTIONS)})]
Rate = Annotated[Count, Meta(description="Invocations per second over the whole batch; 0 for no limit")]
RequestId = Annotated[
    Text, Meta(description="The same id with the same body is the same batch. Without one the server makes one up")
]
Deployment = Annotated[Text, Meta(description="With resume: the deployment to go on with")]
Grace = Annotated[
    str, Meta(description="With cancel: how long after it came into force what has not ended is killed, as 30s or 5m")
]
DryRun = Annotated[bool, Meta(description="Count what the action would do, and do nothing")]
KilledBy = Annotated[Text, Meta(description="The id of a batch: only what it has ended itself by killing")]
All = Annotated[bool, Meta(description="Restricts nothing; without it an otherwise empty filter is refused")]


class FilterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which invocations: all conditions hold. Before is earlier than, after is at or later than."""

    service: Text | UnsetType = UNSET
    handler: Text | UnsetType = UNSET
    key: Key | UnsetType = UNSET
    deployment: Text | UnsetType = UNSET
    target: Target | UnsetType = UNSET
    status: StatusName | list[StatusName] | UnsetType = UNSET
    ids: Ids | UnsetType = UNSET
    created_before: Time | UnsetType = UNSET
    created_after: Time | UnsetType = UNSET
    modified_before: Time | UnsetType = UNSET
    modified_after: Time | UnsetType = UNSET
    killed_by: KilledBy | UnsetType = UNSET
    all: All = False


class GuardBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the number of matches must satisfy before any of them is touched: one of the two."""

    max: Count | UnsetType = UNSET
    expect: Count | UnsetType = UNSET


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch as it is asked for."""

    action: ActionName
    filter: FilterBody
    reason: str | None = None
    request_id: RequestId | None = None
    guard: GuardBody | None = None
    rate: Rate | None = None
    deployment: Deployment | None = None
    grace: Grace | None = None
    dry_run: DryRun = False


class RateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a batch that runs."""

    rate: Rate


_T = TypeVar("_T")

_decode_batch: Final = msgspec.json.Decoder(BatchBody)
_decode_rate: Final = msgspec.json.Decoder(RateBody)
_encode_sorted: Final = msgspec.json.Encoder(order="sorted").encode

_PATH: Final = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`$", re.DOTALL)
_INDEX: Final = re.compile(r"\[[^\]]*\]")
# `+` means a space in a query string, and an offset typed into one by hand has a `+`.
_OFFSET_BEHIND_SPACE: Final = re.compile(r"(?<=\d) (?=\d\d:\d\d$)")


def parse_submission(raw: bytes, now_us: int, id_otherwise: str) -> Submit:
    """The submission that a body asks for, its ages counted back from `now_us`.

    `id_otherwise` is its request id where the body has none. Raises CallerError, naming the field.
    """
    body = decode(_decode_batch, raw)
    if body.action not in ACTIONS:
        message = f"there is no action {body.action!r}; the actions are {', '.join(ACTIONS)}"
        raise CallerError(message, field="action")
    if body.deployment is not None:
        _check_deployment(body)
    return Submit(
        request=id_otherwise if body.request_id is None else _request_id(body.request_id),
        action=body.action,
        filter=_filter(body.filter, now_us),
        reason=body.reason,
        guard=None if body.guard is None else _guard(body.guard),
        rate=body.rate,
        deployment=body.deployment,
        grace=None if body.grace is None else _grace(body.action, body.grace),
        dry_run=body.dry_run,
        body_digest=hashlib.sha256(_encode_sorted(msgspec.json.decode(raw))).digest(),
    )


def parse_rate(raw: bytes) -> int:
    """The rate that a body asks for. Raises CallerError, naming the field."""
    return decode(_decode_rate, raw).rate


def when(text: str, field: str, now_us: int) -> int:
    """A time or an age, microseconds. Raises CallerError, naming the field."""
    try:
        return parse_when(_OFFSET_BEHIND_SPACE.sub("+", text), now_us)
    except CallerError as error:
        raise CallerError(f"{field}: {error}", field=field) from None


def decode(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    """A body as its type. Raises CallerError, naming the field where it is one's fault."""
    if not raw.strip():
        raise CallerError("the body is empty; send a JSON object")
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(f"the body is not JSON: {error}") from None


def _fault(message: str) -> CallerError:
    """What msgspec says, in our words: it names the place behind them, as `$.filter.status[0]`."""
    path = ""
    found = _PATH.search(message)
    if found is not None:
        path, message = _INDEX.sub("", found["path"]).lstrip("."), message[: found.start()]
    for pattern, says in ((_UNKNOWN, "is not a field here"), (_MISSING, "is required")):
        if (match := pattern.match(message)) is not None:
            field = f"{path}.{match['name']}".lstrip(".")
            return CallerError(f"{field} {says}", field=field)
    return CallerError(f"{path or 'the body'}: {message}", field=path or None)


def _request_id(given: str) -> str:
    if not 1 <= len(given) <= limits.NAME_CHARS_MAX or not given.isprintable():
        message = f"request_id must have 1 to {limits.NAME_CHARS_MAX} printable characters"
        raise CallerError(message, field="request_id")
    return given


def _check_deployment(body: BatchBody) -> None:
    if body.action != Action.RESUME:
        # Meant as a condition it would have had no effect, and the batch would reach further than was meant.
        message = "deployment is what a resume goes on with; to select by deployment use filter.deployment"
        raise CallerError(message, field="deployment")
    if not 1 <= len(body.deployment or "") <= limits.NAME_CHARS_MAX:
        raise CallerError(f"deployment must have 1 to {limits.NAME_CHARS_MAX} characters", field="deployment")


def _filter(body: FilterBody, now_us: int) -> Filter:
    given: dict[str, Any] = {name: getattr(body, name) for name in (*TEXTS, *TIMES, "status", "ids", "killed_by")}
    given = {name: value for name, value in given.items() if value is not UNSET}
    for name in TIMES:
        if name in given:
            given[name] = when(given[name], f"filter.{name}", now_us)
    for name in ("status", "ids"):
        if name in given:
            given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
    filter = Filter(**given, all=body.all)
    filters.check(filter)
    for id in filter.ids or ():
        _check_id(id)
    return filter


def _check_id(id: str) -> None:
    """A misspelt id would match nothing, and the batch would be completed as if all were well."""
    try:
        ids.partition_key_of(id)
    except CallerError as error:
        raise CallerError(f"filter.ids: {error}", field="filter.ids") from None


def _grace(action: str, text: str) -> int:
    try:
        grace_us = parse_duration(text)
    except CallerError as error:
        raise CallerError(f"grace: {error}", field="grace") from None
    check_grace(action, grace_us)
    return grace_us


def _guard(body: GuardBody) -> Guard:
    if (body.max is UNSET) == (body.expect is UNSET):
        raise CallerError("a guard has either max or expect", field="guard")
    return Guard(
        max=None if isinstance(body.max, UnsetType) else body.max,
        expect=None if isinstance(body.expect, UnsetType) else body.expect,
    )
