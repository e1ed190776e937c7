"""The store port: what the partition machine asks of its state.

All changes happen inside one transaction of one writer (`begin` … `commit`/`rollback`); between two, everything may
be read. Within it a row is one object: two look-ups of the same invocation return the same `Invocation`,
changed fields included, and `save` marks it to be written. Two rules follow, and the memory store holds its
callers to them: a changed row is saved before the next scan and before the commit; after a sweep the rows of its
slice are looked up again, for it has changed them behind the objects.

Everything is ordered by what the rows hold, never by the order of a hash table, so that the same calls give
the same answers on every machine.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec

from coordinator.model.effects import Effect
from coordinator.model.filters import Filter
from coordinator.model.invocation import Invocation, Payload
from coordinator.model.journal import Entry


class Candidates(StrEnum):
    """How the candidates of a batch are found; only by columns that never change."""

    ALL = "all"
    SERVICE = "service"
    KEY = "key"
    """Service and key."""
    IDS = "ids"
    """The filter's ids, looked up one by one; never asked of the store as a scan."""
    MEMBERS = "members"
    """Those that a guarded batch has marked."""


class Scan(msgspec.Struct, frozen=True, array_like=True):
    """A superset of what a batch can match, in creation order."""

    candidates: Candidates
    service: str | None = None
    key: str | None = None
    members_of: int | None = None
    """Position of the guarded batch."""


class Condition(NamedTuple):
    """Which rows of a scan are meant: all of these."""

    filter: Filter
    caught_up_below: int
    """Only rows whose `caught_up_to` is below this position."""
    tied: bool | None = None
    """True: only rows with ties; False: only rows without; None: both."""
    statuses: frozenset[int] | None = None


class Slice(NamedTuple):
    """A stretch of a scan: rows with after < seq <= upto."""

    scan: Scan
    after: int
    upto: int


class WorkKind(IntEnum):
    """Consequences too large for one record. Stored; never reused."""

    HAND_ON = 1
    """Give a key to its next live waiter: a = service, b = key."""
    TELL_CHILDREN = 2
    """Send an action to the children of a = parent's id, from cursor on; b = action, forget = forget the edges."""
    SETTLE_KEYS = 3
    """After an import: hand on every key that is free and has waiters, from (a = service, b = key) on."""
    DROP_MEMBERS = 4
    """Forget what the guarded batch whose position is in `cursor` has marked."""
    TELL_AWAITERS = 5
    """Tell all that wait for the end of the row whose seq is `a`."""
    DROP_JOURNAL = 6
    """Forget the journals of removed rows, from seq a to b."""
    DROP_VALUES = 7
    """Forget the state of a removed workflow run: a = service, b = key."""
    SEND_CONTEXT = 8
    """Send the rest of a journal and state to an attempt: a = seq, b = attempt, from cursor on."""
    RECLAIM = 9
    """Take back what was delivered before the position in `cursor`."""


class Work(msgspec.Struct, array_like=True):
    """One consequence that outlives its record."""

    number: int
    kind: int
    a: str = ""
    b: str = ""
    cursor: str = ""
    batch: int | None = None
    """Position of the batch behind it."""
    forget: bool = False


class Timer(NamedTuple):
    """A hint to look at rows first <= seq <= last at a time; what is due stands in the rows' `timer_at`."""

    due_at: int
    first: int
    last: int


class Store(Protocol):
    """One partition's state. See the module for the rules."""

    # -- transactions
    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def load_state(self) -> bytes | None:
        """The machine's own scalars, as last saved."""

    def save_state(self, state: bytes) -> None: ...

    # -- invocations
    def insert(self, row: Invocation, payload: Payload | None) -> None:
        """Add a row whose seq is above all before."""

    def by_id(self, id: str) -> Invocation | None: ...
    def by_seq(self, seq: int) -> Invocation | None: ...
    def by_idempotency_key(
        self, service: str, handler: str, key: str | None, idempotency_key: str
    ) -> Invocation | None:
        """The newest row (highest seq) of that target with that idempotency key."""

    def by_workflow_key(self, service: str, key: str) -> Invocation | None:
        """The newest row that is a workflow's run (not shared) of that key."""

    def save(self, row: Invocation) -> None:
        """The row's mutable fields have changed."""

    def remove(self, row: Invocation) -> None:
        """Forget the row and its payload."""

    def payload(self, seq: int) -> Payload:
        """What was sent to it and came back; an empty payload where there is none."""

    def save_payload(self, seq: int, payload: Payload) -> None: ...

    # -- scans
    def slice_end(self, scan: Scan, after: int, below: int, limit: int) -> tuple[int | None, int]:
        """The seq of the `limit`-th candidate with after < seq < below, or of the last; how many up to it.

        Members count as candidates even after their rows were removed.
        """

    def select(self, part: Slice, condition: Condition, limit: int) -> list[Invocation]:
        """The first `limit` rows of the slice that meet the condition, by seq."""

    def sweep(self, part: Slice, condition: Condition, effect: Effect, at: int, position: int) -> int:
        """Perform the effect on every row of the slice that meets the condition; how many there were."""

    def mark_members(self, part: Slice, condition: Condition, position: int) -> int:
        """Make every such row a member of the batch at `position` and stamp it; how many there were."""

    def add_member(self, position: int, seq: int) -> None:
        """Make one row a member; the caller stamps it."""

    def is_member(self, position: int, seq: int) -> bool: ...
    def drop_members(self, position: int, limit: int) -> int:
        """Forget up to `limit` members; how many there were."""

    # -- keys
    def holder(self, service: str, key: str) -> int | None:
        """Seq of the invocation that holds the key, 0 while it is being handed on, None when it is free."""

    def set_holder(self, service: str, key: str, seq: int | None) -> None: ...
    def queue_push(self, service: str, key: str, at: int, tiebreak: str, seq: int) -> None:
        """Join the key's queue, which is ordered by (at, tiebreak, seq)."""

    def queue_pop(self, service: str, key: str) -> int | None:
        """Take the first out of the key's queue."""

    def free_keys(self, service: str, key: str, limit: int) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
        """Of the next `limit` keys after (service, key) that have a queue those without a holder, and the last one
        that was looked at; None when there are no more.
        """

    # -- call trees
    def edge_add(self, parent: str, child: str, step: int) -> bool:
        """Remember an open attached child and the step that called it, -1 for none; False when it was there."""

    def edge_remove(self, parent: str, child: str) -> int | None:
        """Forget it; the step that called it, None when it was not there."""

    def edges(self, parent: str, after: str, limit: int) -> list[str]:
        """Children of a parent after an id, by id."""

    def awaiter_add(self, seq: int, parent: str, child: str) -> None:
        """Remember that this parent waits for the end of this row too, which it knows as `child`."""

    def awaiters(self, seq: int, limit: int) -> list[tuple[str, str]]:
        """(parent, child) of a row, by both."""

    def awaiter_remove(self, seq: int, parent: str, child: str) -> None: ...

    # -- journals
    def journal_put(self, seq: int, entry: Entry) -> None:
        """Add an entry to a row's journal, or replace the one of that step."""

    def journal_entry(self, seq: int, step: int) -> Entry | None: ...
    def journal(self, seq: int, after: int, limit: int) -> list[Entry]:
        """A row's entries with step > after, by step."""

    def journal_kept(self, first: int, last: int) -> bool:
        """Whether there is any entry of a row with first <= seq <= last."""

    def journal_drop(self, first: int, last: int, limit: int) -> tuple[int, int | None]:
        """Forget the entries of rows first <= seq <= last that were removed, by (seq, step).

        Stops when `limit` (at least 1) is used up; an entry that is forgotten uses one of it, and so does a row that
        is still there and has a journal. How much was used, and the seq to go on from, None at the end.
        """

    # -- state of keyed services
    def value(self, service: str, key: str, name: str) -> bytes | None: ...
    def value_put(self, service: str, key: str, name: str, value: bytes) -> bool:
        """Set one; False when it was there."""

    def value_remove(self, service: str, key: str, name: str) -> bool:
        """Forget one; False when it was not there."""

    def values(self, service: str, key: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """(name, value) of a key with name > after, by name."""

    # -- deliveries
    def held_put(self, seq: int, position: int, lane: str) -> None:
        """A delivery of this row went out of a lane at a position."""

    def held_remove(self, seq: int) -> str:
        """Forget a delivery that is out; the lane that it went out of."""

    def held_before(self, position: int, limit: int) -> list[int]:
        """Rows whose delivery went out before a position, by seq."""

    def ready_push(self, lane: str, ordinal: int, seq: int) -> None:
        """Wait for a delivery, behind all before: ordinals ascend within a lane."""

    def ready_pop(self, lane: str) -> int | None:
        """Take out the seq with the lowest ordinal of a lane; None when nobody waits there."""

    # -- timers
    def timer_add(self, timer: Timer) -> None:
        """Adding one that is there changes nothing."""

    def timer_remove(self, timer: Timer) -> None: ...
    def timers_due(self, at: int, limit: int) -> list[Timer]:
        """Those with due_at <= at, by (due_at, first, last)."""

    def next_timer(self) -> int | None: ...

    # -- work items
    def work_put(self, work: Work) -> None:
        """Add it, or replace the one of that number."""

    def work_remove(self, number: int) -> None: ...
    def work_list(self, limit: int) -> list[Work]:
        """By number."""

    # -- batches
    def batch_put(self, position: int, request: str, value: bytes) -> None: ...
    def batch_remove(self, position: int) -> None: ...
    def batches(self) -> list[tuple[int, str, bytes]]:
        """All, by position."""

    # -- outbox
    def outbox_put(self, destination: int, number: int, value: bytes) -> None: ...
    def outbox_list(self, destination: int, above: int, limit: int) -> list[tuple[int, bytes]]: ...
    def outbox_trim(self, destination: int, upto: int) -> None:
        """Forget what was published."""

    def outbox_destinations(self) -> list[int]: ...

    # -- comparison
    def dump(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Every stored fact but the outbox entries, as (table, row), in one fixed order: the canonical dump."""

    def errors(self) -> AbstractContextManager[None]:
        """Errors of what the state is kept in as errors of ours, whichever call inside of the block they come from."""

    def close(self) -> None: ...
