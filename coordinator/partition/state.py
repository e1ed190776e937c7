"""What the partition machine keeps beside the rows: its scalars, and the batches it knows."""

from enum import StrEnum
from typing import Final

import msgspec

from coordinator.model.filters import Resolved
from coordinator.model.messages import Tally
from coordinator.stores.port import Scan

# Destinations of the outbox. Those from 0 on are the `commands` of that partition.
DELIVERIES: Final = -1
PROGRESS: Final = -2
DEAD_LETTERS: Final = -3


class Head(msgspec.Struct, array_like=True):
    """How far the outbox of one destination has come."""

    number: int = 0
    """Of the newest entry; dense from 1."""
    digest: int = 0
    """xxh3_64 of the entry, seeded with the digest before it: equal digests, equal outbox contents."""


class State(msgspec.Struct):
    """The scalars of one partition, stored as one value with every commit."""

    partition: int
    partitions: int
    log: str = ""
    """Identity of the log that feeds this state."""
    position: int = -1
    """Of the record applied last."""
    digest: int = 0
    """xxh3_64 of that record, against a log that was replaced under the same identity."""
    now: int = 0
    """Its append time."""
    level: int = 1
    tick: int = 0
    next_seq: int = 1
    next_ready: int = 1
    next_work: int = 1
    backlog: dict[str, int] = {}
    """Entries that wait for a delivery, by lane."""
    served: tuple[str, ...] | None = None
    """The lanes that are delivered, in order; None: all."""
    tenure: int = 0
    """The highest of those who have said so."""
    works: int = 0
    """Work items stored."""
    held: dict[str, int] = {}
    """Deliveries outstanding, by the lane that they went out of."""
    lane_turn: str = ""
    """The lane whose backlog was worked off last; the next one has the next turn."""
    turn: int = -1
    """Position of the batch that was scanned last; the next one has the next turn."""
    min_retention: int | None = None
    """The shortest retention of any row so far, for the timers of whole slices."""
    max_retention: int = 0
    loose_keys: bool = False
    """An import has left keys with waiters and no holder."""
    loose_at: int = -1
    """Position of the last record that left such a key."""
    heads: dict[int, Head] = {}
    received: dict[int, int] = {}
    """Per source partition the number taken last."""


class Phase(StrEnum):
    """Where a batch stands on this partition."""

    ANNOUNCED = "announced"
    """Only a control or a message for it was seen so far; it is not in force."""
    PENDING = "pending"
    PREPARED = "prepared"
    """Guarded: its members are marked, it awaits its commit."""
    SCANNED = "scanned"
    """Every candidate is decided; consequences are under way."""
    COMPLETED = "completed"
    ABORTING = "aborting"
    """No longer in force; consequences of what it did are under way."""
    ABORTED = "aborted"
    REFUSED = "refused"


class BatchState(msgspec.Struct):
    """What a partition keeps of one batch, from its position until it is forgotten."""

    request: str
    position: int
    at: int
    """Append time at that position."""
    phase: Phase
    action: str = ""
    filter: Resolved = Resolved()
    """As the action reads it here: with the statuses that it may act on."""
    not_after: int = 0
    guarded: bool = False
    dry_run: bool = False
    deployment: str | None = None
    revision: int = 0
    paused: bool = False
    aborted: bool = False
    rate: int | None = None
    rate_since: int = 0
    rate_from: int = 0
    """What was matched when the rate was set."""
    announced_at: int | None = None
    """Position of the first record that named it, where that was not its own."""
    committed_at: int | None = None
    """Position of the commit of a guarded batch; from there on it acts."""
    commit_time: int = 0
    scan: Scan | None = None
    below: int = 0
    """Candidates have a seq below this."""
    cursor: int = 0
    """Candidates up to this seq (for ids: this many of them) are decided."""
    tally: Tally = msgspec.field(default_factory=Tally)
    members: int = 0
    propagated: int = 0
    sent: dict[int, int] = {}
    received: dict[int, int] = {}
    work_open: int = 0
    """Work items on its account."""
    told_at: int = 0
    owes: bool = False
    """Something changed since progress was told."""
    reason: str | None = None
    grace: int | None = None
    """Of a cancel: how long after it came into force what it has not ended is killed."""
    kill: "BatchState | None" = None
    """What does that, once that time is over: a batch within this one, on this one's account (`graces`)."""

    @property
    def positions(self) -> tuple[int, ...]:
        """Where it took effect, or is to."""
        kill = None if self.kill is None else self.kill.position
        return tuple(at for at in (self.position, self.committed_at, kill) if at is not None)

    @property
    def kill_in_force(self) -> "BatchState | None":
        """The kill of its grace while rows are to be caught up with it."""
        return self.kill if self.kill is not None and self.kill.phase is Phase.PENDING else None

    @property
    def awaits_grace(self) -> bool:
        """Whether there may be something left for its grace to kill."""
        if self.grace is None or self.aborted or (self.kill is not None and self.kill_in_force is None):
            return False
        return self.phase in (Phase.PENDING, Phase.PREPARED) or self.tally.signalled > 0

    @property
    def in_force(self) -> int:
        """The position at which its present effect counts: the commit's for a committed one."""
        return self.position if self.committed_at is None else self.committed_at

    @property
    def in_force_time(self) -> int:
        """Append time at that position."""
        return self.at if self.committed_at is None else self.commit_time

    @property
    def marks(self) -> bool:
        """Whether its effect is only to mark members."""
        return self.guarded and self.committed_at is None

    @property
    def cursor_ppm(self) -> int:
        """How much of its candidates is decided, in millionths."""
        if self.phase is Phase.ANNOUNCED:
            return 0
        if self.phase is not Phase.PENDING:
            return 1_000_000
        by_ids = self.filter.ids if self.committed_at is None else None
        end = self.below - 1 if by_ids is None else len(by_ids)
        return 1_000_000 if end <= 0 else min(1_000_000, self.cursor * 1_000_000 // end)


# Made here, once: the first use of a type may not be in two threads at a time (see decisions).
decode_state: Final = msgspec.msgpack.Decoder(State).decode
decode_batch: Final = msgspec.msgpack.Decoder(BatchState).decode
