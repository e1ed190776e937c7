"""Rows of Restate's `sys_invocation` table, one JSON object a line, as messages that import them.

Columns that an import has no use for are ignored, and a column that is null may be left out, which is how
Restate writes its rows. Times are RFC 3339 with an offset, retentions ISO 8601 durations.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec

from coordinator.model import ids, limits
from coordinator.model.errors import CallerError
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import Import
from coordinator.model.statuses import BY_NAME, NAMES, OUTCOME_NAMES, Outcome, Status

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RETENTION_MAX: Final = timedelta(days=36_500)
"""For ever, as far as anyone will see; longer ones would leave the 64 bits that a stored time has."""

_TYPES: Final = {kind.name.lower(): int(kind) for kind in ServiceType}
_SCHEDULED: Final = NAMES[Status.SCHEDULED]
_PENDING: Final = NAMES[Status.PENDING]
_BACKING_OFF: Final = NAMES[Status.BACKING_OFF]
_COMPLETED: Final = NAMES[Status.COMPLETED]

# Restate knows two results. Who was cancelled or killed has failed with code 409 and just this word (its
# errors.rs says "canceled", its SDKs "cancelled"); a handler's own conflict says more than the word.
_ENDED_BY_OPERATOR: Final = re.compile(r"\[409[^\]]*\] (?:(cancell?ed)|killed)", re.IGNORECASE)
_RESULTS: Final = ("success", "failure")

TIME_COLUMNS: Final = (
    "created_at",
    "modified_at",
    "inboxed_at",
    "scheduled_at",
    "scheduled_start_at",
    "running_at",
    "last_start_at",
    "next_retry_at",
    "completed_at",
)
_IMPORT_TIMES: Final = tuple(name for name in Import.__struct_fields__ if name.endswith("_at"))


class _Row(msgspec.Struct):
    """The columns that matter, by their names in Restate."""

    id: str
    status: str
    target_service_name: str
    target_handler_name: str
    target_service_ty: str
    created_at: _Time
    modified_at: _Time
    target_service_key: str | None = None
    idempotency_key: str | None = None
    invoked_by_id: str | None = None
    inboxed_at: _Time | None = None
    scheduled_start_at: _Time | None = None
    next_retry_at: _Time | None = None
    completed_at: _Time | None = None
    completion_retention: timedelta | None = None
    completion_result: str | None = None
    completion_failure: str | None = None
    pinned_deployment_id: str | None = None
    last_attempt_deployment_id: str | None = None
    retry_count: _Count | None = None
    last_failure: str | None = None


class _Age(msgspec.Struct):
    modified_at: _Time


_decode_row: Final = msgspec.json.Decoder(_Row).decode
_decode_age: Final = msgspec.json.Decoder(_Age).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode

_BAD_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_row(line: bytes) -> Import:
    """One line as the message that imports it. Raises CallerError with the reason when it cannot be one."""
    try:
        row = _decode_row(line)
    except _BAD_JSON as error:
        raise CallerError(_reason(error)) from None
    status = row.status
    _check(row)
    due_at = row.scheduled_start_at if status == _SCHEDULED else row.next_retry_at if status == _BACKING_OFF else None
    kept, failure = row.completion_retention, row.last_failure or row.completion_failure
    return Import(
        id=row.id,
        service=row.target_service_name,
        handler=row.target_handler_name,
        key=row.target_service_key,
        type=_TYPES[row.target_service_ty],
        status=status,
        outcome=_outcome(row) if status == _COMPLETED else None,
        created_at=_micros(row.created_at),
        modified_at=_micros(row.modified_at),
        due_at=None if due_at is None else _micros(due_at),
        scheduled_at=None if row.scheduled_start_at is None else _micros(row.scheduled_start_at),
        inboxed_at=None if row.inboxed_at is None else _micros(row.inboxed_at),
        completed_at=None if row.completed_at is None else _micros(row.completed_at),
        idempotency_key=row.idempotency_key,
        retention=limits.RETENTION_DEFAULT_US if kept is None else min(kept, _RETENTION_MAX) // _MICROSECOND,
        deployment=row.pinned_deployment_id or row.last_attempt_deployment_id,
        retry=row.retry_count or 0,
        last_failure=failure[: limits.FAILURE_CHARS_MAX] if failure else None,
        parent=row.invoked_by_id,
        detached=row.scheduled_start_at is not None and row.invoked_by_id is not None,
    )


def rebase(message: Import, offset_us: int) -> Import:
    """The same with all its times moved by `offset_us`."""
    moved = {name: at + offset_us for name in _IMPORT_TIMES if (at := getattr(message, name)) is not None}
    return msgspec.structs.replace(message, **moved)


def rebase_line(line: bytes, offset_us: int) -> bytes:
    """The line with all its time columns moved by `offset_us`. What is no row is left as it is.

    Whoever reads the line next then finds the fault that was there.
    """
    try:
        row = _decode_object(line)
        for name in TIME_COLUMNS:
            if (at := row.get(name)) is not None:
                row[name] = msgspec.convert(at, _Time, strict=True) + offset_us * _MICROSECOND
    except (*_BAD_JSON, OverflowError):
        return line
    return msgspec.json.encode(row)


def modified_at(line: bytes) -> int | None:
    """When the row was last modified, None when the line does not say."""
    try:
        return _micros(_decode_age(line).modified_at)
    except _BAD_JSON:
        return None


def _check(row: _Row) -> None:
    """Refuse what a partition would refuse, before anything stands on its log."""
    if row.status not in BY_NAME:
        raise CallerError(f"status {row.status!r} is none of {', '.join(BY_NAME)}", field="status")
    kind = _TYPES.get(row.target_service_ty)
    if kind is None:
        known = ", ".join(_TYPES)
        raise CallerError(f"target_service_ty {row.target_service_ty!r} is none of {known}", field="target_service_ty")
    key = row.target_service_key
    if (key is None) != (kind == ServiceType.SERVICE):
        wrong = "has a key" if key is not None else "has no key"
        raise CallerError(f"a {row.target_service_ty} that {wrong} cannot be", field="target_service_key")
    if row.status == _PENDING and key is None:
        raise CallerError("a pending invocation waits for its key, and this one has none", field="status")
    partition_key = ids.partition_key_of(row.id)
    if key is not None and partition_key != ids.key_partition_key(key):
        raise CallerError(f"{row.id} does not carry the partition key of its key {key!r}", field="id")
    if row.invoked_by_id is not None:
        ids.partition_key_of(row.invoked_by_id)


def _outcome(row: _Row) -> str:
    result = row.completion_result
    if result not in _RESULTS:
        raise CallerError(
            "a completed invocation has a completion_result, success or failure", field="completion_result"
        )
    if result == "failure" and row.completion_failure is not None:
        ended = _ENDED_BY_OPERATOR.fullmatch(row.completion_failure)
        if ended is not None:
            return OUTCOME_NAMES[Outcome.CANCELLED if ended[1] else Outcome.KILLED]
    return result


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"not a row of sys_invocation: {error}"
    return f"not JSON: {error}"
