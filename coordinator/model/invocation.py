"""One invocation as a partition keeps it: the row."""

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from coordinator.model.statuses import NAMES, OUTCOME_NAMES, Outcome, Status


class ServiceType(IntEnum):
    """What a target's service is. Stored; never reused."""

    SERVICE = 0
    VIRTUAL_OBJECT = 1
    WORKFLOW = 2


class CancelState(IntEnum):
    """How far the one open cancel of a row has come. Stored; never reused."""

    NONE = 0
    REQUESTED = 1
    """Its attached children were asked first and are not all back."""
    SIGNALLED = 2
    """The invocation itself has been told; it surfaces at the next await point."""
    SURFACED = 3
    """It has: what the handler does now, it does in the knowledge of it."""


class Ties(IntFlag):
    """What else is concerned when a row ends. A row without ties may be ended by a set-based statement."""

    NONE = 0
    HELD = 1
    """A participant has it, or a delivery to one is under way."""
    KEY = 2
    """It holds its key."""
    PARENT = 4
    """An attached parent is to be told."""
    CHILDREN = 8
    """It has open attached children."""
    CANCEL = 16
    """It was asked to cancel and has not ended."""
    WOKEN = 32
    """While a participant had it a child ended; that it waits for it may be reported only after this."""
    PICKY = 64
    """It is suspended until certain calls have ended; others do not wake it."""
    STATE = 128
    """A workflow's run that has set state, which goes when the run is removed. The only tie that outlives the end."""


HELD: Final = int(Ties.HELD)
KEY: Final = int(Ties.KEY)
PARENT: Final = int(Ties.PARENT)
CHILDREN: Final = int(Ties.CHILDREN)
CANCEL: Final = int(Ties.CANCEL)
WOKEN: Final = int(Ties.WOKEN)
PICKY: Final = int(Ties.PICKY)
STATE: Final = int(Ties.STATE)


class Invocation(msgspec.Struct, array_like=True):
    """A row of the invocation store. Times are microseconds since the epoch, UTC.

    The order of the fields is the order of the columns; those up to `retention` never change.
    """

    seq: int
    """Creation order within the partition, from 1, dense over all rows ever created."""
    id: str
    service: str
    handler: str
    key: str | None
    type: int
    """A ServiceType."""
    shared: bool
    """A concurrent handler of a keyed service, which needs no turn of its key."""
    created_at: int
    parent: str | None
    """Id of the invocation that called it."""
    detached: bool
    idempotency_key: str | None
    retention: int
    """How long it is kept after its end, in microseconds."""
    status: int
    outcome: int | None
    modified_at: int
    scheduled_at: int | None
    completed_at: int | None
    timer_at: int | None
    """When the row's one timer is due: a scheduled start, a retry, the end of a sleep, or of its retention."""
    deployment: str | None
    attempt: int
    """Number of the newest delivery; fences off the reports of older ones."""
    retry: int
    """Attempts so far, as users are shown them."""
    last_failure: str | None
    children: int
    """Attached children that it ever had; bounded by CHILDREN_MAX."""
    cancel: int
    """A CancelState."""
    cancel_batch: int | None
    """Position of the batch that asked for it, if a batch did; of a completed one, of the batch that ended it through
    its parent."""
    batch: int | None
    """Position of the batch that last took effect on it."""
    ties: int
    """A Ties."""
    caught_up_to: int
    """Up to which position the pending batches are folded into this row."""


COLUMNS: Final = Invocation.__struct_fields__
IMMUTABLE: Final = COLUMNS[: COLUMNS.index("retention") + 1]
MUTABLE: Final = COLUMNS[COLUMNS.index("retention") + 1 :]


class Payload(msgspec.Struct, array_like=True):
    """What was sent to an invocation and what came back. Kept beside the row, read only when needed."""

    input: bytes | None = None
    headers: dict[str, str] = {}
    output: bytes | None = None
    depth: int = 0
    """Attached calls above it; bounded by DEPTH_MAX."""
    restarted_from: str | None = None
    """Id of the completed invocation that this one was made from."""
    restarted_as: str | None = None
    """Id of the newest one that was made from this one."""
    imported: bool = False
    """It was taken over from another system, which does not tell what was sent to it."""


def target(row: Invocation) -> str:
    """`Greeter/greet`, or with a key `CartObject/cart55/add`."""
    return target_name(row.service, row.key, row.handler)


def target_name(service: str, key: str | None, handler: str) -> str:
    """A target as it is written."""
    return f"{service}/{handler}" if key is None else f"{service}/{key}/{handler}"


def status_name(row: Invocation) -> str:
    """The status as users know it."""
    return NAMES[Status(row.status)]


def outcome_name(row: Invocation) -> str | None:
    """The outcome as users know it, None while it has not ended."""
    return None if row.outcome is None else OUTCOME_NAMES[Outcome(row.outcome)]
