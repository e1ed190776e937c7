"""What the server shows, decoded. Times are RFC 3339 in UTC with microseconds, as the API writes them.

Fields that this version does not know are ignored and those that a server leaves out have defaults, so that a
client and a server of neighbouring versions understand each other.
"""

from typing import Any, Final

import msgspec


class Invocation(msgspec.Struct, kw_only=True):
    """One invocation."""

    id: str
    target: str = ""
    """`Greeter/greet`, or with a key `CartObject/cart55/add`."""
    service: str = ""
    key: str | None = None
    handler: str = ""
    status: str = ""
    outcome: str | None = None
    """`success`, `failure`, `cancelled` or `killed`, once it is completed."""
    created_at: str = ""
    modified_at: str = ""
    scheduled_at: str | None = None
    completed_at: str | None = None
    deployment: str | None = None
    retry: int = 0
    """Attempts so far."""
    last_failure: str | None = None
    invoked_by: str | None = None
    """Id of the invocation that called it."""
    detached: bool = False
    batch: str | None = None
    """Id of the batch that last took effect on it."""
    idempotency_key: str | None = None


class InvocationDetails(Invocation, kw_only=True):
    """One invocation with what a listing does not show."""

    attempt: int = 0
    """Number of the newest attempt that was delivered, 0 before the first."""
    next_retry_at: str | None = None
    """When the next attempt is due, while it is backing off."""
    restarted_from: str | None = None
    """Id of the completed one that it was made from."""
    restarted_as: str | None = None
    """Id of the newest one that was made from it."""


class Acted(msgspec.Struct, kw_only=True):
    """What came of an action on one invocation, or of starting one."""

    id: str
    """Its id; of a restart as new that of the new one."""
    status: str | None = None
    """Where it stands now; None once it is purged, and of a new one that is yet to be created."""
    done: bool = True
    """False where it was only asked for, as a cancellation is, or accepted."""


class PartitionProgress(msgspec.Struct, kw_only=True):
    """One partition's share of a batch."""

    partition: int
    state: str = ""
    position: int | None = None
    """Where on its log the batch came into force."""
    matched: int = 0
    ended: int = 0
    applied: int = 0
    signalled: int = 0
    ended_by_other: int = 0
    already_signalled: int = 0
    not_applicable: int = 0
    failed: int = 0
    propagated: int = 0
    members: int | None = None
    cursor_fraction: float = 0.0
    last_heard_at: str | None = None


COMPLETED: Final = "completed"
COMPLETED_WITH_FAILURES: Final = "completed-with-failures"
REFUSED: Final = "refused"
ABORTED: Final = "aborted"
FINAL: Final = frozenset({COMPLETED, COMPLETED_WITH_FAILURES, REFUSED, ABORTED})
"""States that a batch does not leave."""


class Progress(msgspec.Struct, kw_only=True):
    """A batch as of one moment. All counts are cumulative, and

    matched = ended + applied + signalled + ended_by_other + already_signalled + not_applicable + failed.
    """

    id: str
    action: str = ""
    filter: dict[str, Any] = {}
    reason: str | None = None
    principal: str = ""
    dry_run: bool = False
    state: str = ""
    settled: bool = False
    """All that was sent on its account has arrived."""
    submitted_at: str = ""
    finished_at: str | None = None
    matched: int = 0
    ended: int = 0
    applied: int = 0
    """Took effect, for actions other than cancel and kill, and in a dry run."""
    signalled: int = 0
    """Asked to end and still at it."""
    ended_by_other: int = 0
    already_signalled: int = 0
    not_applicable: int = 0
    failed: int = 0
    propagated: int = 0
    """Descendants that were ended on its account, beside the law."""
    remaining: int | None = None
    """Matches still to be acted on, where they were counted before."""
    rate_per_s: float = 0.0
    guard: dict[str, int] | None = None
    rate: int | None = None
    deployment: str | None = None
    grace_s: float | None = None
    awaits_grace: bool = False
    """What it has not ended is still to be killed when its grace is over."""
    retry_of: str | None = None
    """The batch of which it does again what has failed."""
    revision: int = 0
    members: int | None = None
    refusal: str | None = None
    """Why it was refused, or why a partition took no part."""
    progress_fraction: float | None = None
    """How much of all candidates is decided, 0 to 1."""
    stalled: list[int] = []
    """Partitions that owe progress and are silent."""
    partitions: list[PartitionProgress] = []

    @property
    def over(self) -> bool:
        """Whether it has reached a state that it does not leave."""
        return self.state in FINAL


class PendingBatch(msgspec.Struct, kw_only=True):
    """A batch in force on a partition."""

    id: str
    action: str = ""
    position: int = 0
    cursor_fraction: float = 0.0
    matched: int = 0
    paused: bool = False


class PartitionInfo(msgspec.Struct, kw_only=True):
    """How a partition stands."""

    partition: int
    owner: str | None = None
    failure: str | None = None
    """Why it stands still."""
    position: int = -1
    """Applied up to here."""
    end: int = 0
    lag: int = 0
    level: int = 1
    tick: int = 0
    pending: list[PendingBatch] = []
    works: int = 0
    """Deferred work items."""
    held: int = 0
    """Deliveries outstanding."""
    backlog: int = 0
    """Invocations that wait for a delivery slot."""
    records: int = 0
    """Applied by the present owner."""
    longest_step_us: int = 0
    unpublished: int = 0
    """What it has sent and the log has not acknowledged."""
    snapshot_position: int | None = None
    """What has applied the newest snapshot; None without one."""
    snapshot_at: str | None = None
    """When that was made."""
    snapshot_failures: int = 0
    """Snapshots that its present owner could not make."""


class ImportFault(msgspec.Struct, frozen=True):
    """A line that was not imported."""

    line: int
    reason: str


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of the lines of an import."""

    imported: int = 0
    existing: int = 0
    """Were there before and are left alone."""
    failed: int = 0
    errors: list[ImportFault] = []
    """The first of the failed lines."""
