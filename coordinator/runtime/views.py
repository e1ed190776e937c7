"""What users are shown of invocations and partitions. A request's view is `requests.view`."""

import base64
from typing import Final, NamedTuple

import msgspec

from coordinator.model.errors import CallerError
from coordinator.model.invocation import Invocation, Payload, outcome_name, status_name, target
from coordinator.model.statuses import Status
from coordinator.model.times import parse_rfc3339, to_rfc3339


class InvocationView(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation. Times are RFC 3339, UTC, with microseconds."""

    id: str
    target: str
    service: str
    key: str | None
    handler: str
    status: str
    outcome: str | None
    created_at: str
    modified_at: str
    scheduled_at: str | None
    completed_at: str | None
    deployment: str | None
    retry: int
    """Attempts so far."""
    last_failure: str | None
    invoked_by: str | None
    """Id of the invocation that called it."""
    detached: bool
    batch: str | None
    """Id of the batch that last took effect on it."""
    idempotency_key: str | None


class InvocationDetails(InvocationView, frozen=True, kw_only=True):
    """An invocation with what only a look at it alone shows."""

    attempt: int
    """Number of the newest attempt that was delivered, 0 before the first."""
    next_retry_at: str | None
    """When the next attempt is due, while it is backing off."""
    restarted_from: str | None
    """Id of the completed one that it was made from."""
    restarted_as: str | None
    """Id of the newest one that was made from it."""


class Listed(NamedTuple):
    """An invocation in a listing."""

    at: int
    """`created_at`, microseconds since the epoch."""
    invocation: InvocationView


class Ending(NamedTuple):
    """An invocation, and what it has come to if it has ended."""

    invocation: InvocationView
    output: bytes | None
    """What its handler has returned."""


def invocation_details(row: Invocation, batch: str | None, payload: Payload) -> InvocationDetails:
    """A caught-up row, with its payload, as users see it."""
    return InvocationDetails(
        **msgspec.structs.asdict(invocation_view(row, batch)),
        attempt=row.attempt,
        next_retry_at=_time(row.timer_at if row.status == Status.BACKING_OFF else None),
        restarted_from=payload.restarted_from,
        restarted_as=payload.restarted_as,
    )


def invocation_view(row: Invocation, batch: str | None) -> InvocationView:
    """A caught-up row as users see it."""
    return InvocationView(
        id=row.id,
        target=target(row),
        service=row.service,
        key=row.key,
        handler=row.handler,
        status=status_name(row),
        outcome=outcome_name(row),
        created_at=to_rfc3339(row.created_at),
        modified_at=to_rfc3339(row.modified_at),
        scheduled_at=_time(row.scheduled_at),
        completed_at=_time(row.completed_at),
        deployment=row.deployment,
        retry=row.retry,
        last_failure=row.last_failure,
        invoked_by=row.parent,
        detached=bool(row.detached),
        batch=batch,
        idempotency_key=row.idempotency_key,
    )


def _time(at: int | None) -> str | None:
    return None if at is None else to_rfc3339(at)


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Where a listing goes on: behind what was made at this time under this id, newest first, then by id."""

    at: int
    id: str

    @staticmethod
    def behind(made_at: str, id: str) -> "Cursor":
        """Where a listing goes on behind the last one of a page, which was made at this RFC 3339 time."""
        return Cursor(parse_rfc3339(made_at), id)

    def text(self) -> str:
        """As clients pass it back; opaque to them."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")

    @staticmethod
    def parse(text: str) -> "Cursor":
        """Raises CallerError when it is none that a listing has given."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return _cursors.decode(raw)
        except (ValueError, msgspec.DecodeError):
            raise CallerError("cursor is none that a listing gave; start without one", field="cursor") from None


_cursors: Final = msgspec.msgpack.Decoder(Cursor)


class PendingBatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch in force on a partition."""

    id: str
    action: str
    position: int
    cursor_fraction: float
    matched: int
    paused: bool


class PartitionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's store says of it; the defaults are those of one that nothing was committed to."""

    position: int = -1
    level: int = 1
    tick: int = 0
    works: int = 0
    held: int = 0
    backlog: int = 0
    loose_keys: bool = False
    """An import has left keys with waiters and no holder."""
    loose_at: int = -1
    """Position of the last record that left such a key."""
    pending: list[PendingBatchView] = []


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """A partition as its store and its owner show it."""

    partition: int
    owner: str | None
    """The process that has it, None while none does."""
    failure: str | None
    """Why it stands still; nothing after `position` is applied until that is mended."""
    position: int
    """Applied up to here, -1 before the first record and where the store cannot be read."""
    end: int
    """The position that the next record gets."""
    lag: int
    level: int
    tick: int
    pending: list[PendingBatchView]
    works: int
    """Work items stored."""
    held: int
    """Deliveries outstanding."""
    backlog: int
    """Invocations that wait for a delivery slot."""
    records: int
    """Applied by the present owner."""
    longest_step_us: int
    """The longest run of the present owner, in microseconds."""
    unpublished: int
    """What it has sent, to the log, that is not acknowledged."""
    snapshot_position: int | None
    """What has applied the newest snapshot that it knows of; None without one."""
    snapshot_at: str | None
    """When that was made."""
    snapshot_failures: int
    """Snapshots that it could not make."""
