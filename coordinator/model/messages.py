"""The messages of every stream: closed, numbered, never reused.

On the wire a message is a msgpack map with its `kind` (a number, below as `tag`), the schema version `v` it
was written in, and its fields by name; a field that has its default is left out. Times are microseconds since
the epoch, UTC; durations are microseconds. New fields come with a default and a raised `v`.

Numbers 1-31 are commands, 32-47 requests, 48-63 progress, 64-79 deliveries, 80- dead letters.
"""

from typing import Any, ClassVar, Final

import msgpack
import msgspec

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.journal import Entry, Step
from coordinator.model.scalars import Count, Duration, Time


class Message(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind", tag=0):
    """What all messages share."""

    # A default_factory is never left out by omit_defaults, so that `v` is always on the wire.
    v: Count = msgspec.field(default_factory=lambda: 1)
    """Schema version the message was written in."""


class Command(Message, kw_only=True, tag=0):
    """What may stand on `commands`."""

    # Set where a partition sends to another (or to itself): with these the receiver takes each just once.
    source: int = -1
    """Partition that sent it, -1 when it comes from outside."""
    number: Count = 0
    """The sender's number for this destination, dense from 1."""


# -- commands from producers and operators -------------------------------------------------------------------


class Invoke(Command, kw_only=True, tag=1):
    """Create an invocation."""

    id: str
    service: str
    handler: str
    key: str | None = None
    type: Count = 0
    """0 service, 1 virtual object, 2 workflow."""
    shared: bool = False
    input: bytes | None = None
    headers: dict[str, str] = {}
    due_at: Time | None = None
    """When to start it; None at once."""
    idempotency_key: str | None = None
    retention: Duration = limits.RETENTION_DEFAULT_US
    deployment: str | None = None
    parent: str | None = None
    detached: bool = False
    depth: Count = 0
    """Attached calls above it."""
    restarted_from: str | None = None
    """Id of the completed invocation that it is made from."""


class Import(Command, kw_only=True, tag=2):
    """Take over an invocation from another system as it stands."""

    id: str
    service: str
    handler: str
    status: str
    created_at: Time
    modified_at: Time
    key: str | None = None
    type: Count = 0
    outcome: str | None = None
    due_at: Time | None = None
    """Scheduled start or next retry, whichever the status waits for."""
    scheduled_at: Time | None = None
    inboxed_at: Time | None = None
    """When it joined its key's queue; the order of the queue, then the id."""
    completed_at: Time | None = None
    idempotency_key: str | None = None
    retention: Duration = limits.RETENTION_DEFAULT_US
    deployment: str | None = None
    retry: Count = 0
    last_failure: str | None = None
    parent: str | None = None
    detached: bool = False


class ImportEnd(Command, kw_only=True, tag=3):
    """An import is over: keys that have waiters and no holder are handed on."""


class Act(Command, kw_only=True, tag=4):
    """An operator's action on one invocation."""

    action: str
    id: str
    deployment: str | None = None
    """For `resume`: the deployment to go on with."""


# -- batches -------------------------------------------------------------------------------------------------


class Batch(Command, kw_only=True, tag=5):
    """An action on all that a filter matches, in force at this record's position."""

    request: str
    action: str
    filter: Filter
    not_after: Time
    """After this append time a partition refuses it."""
    guarded: bool = False
    """Only mark the matches as members; a `Commit` acts on them."""
    dry_run: bool = False
    deployment: str | None = None
    revision: Count = 0
    paused: bool = False
    rate: Count | None = None
    """Matches a second on this partition at most."""
    reason: str | None = None
    principal: str | None = None
    grace: Duration | None = None
    """For `cancel`: how long after it came into force what it has asked to end and has not ended is killed."""


class Control(Command, kw_only=True, tag=6):
    """What a batch is to be from now on; a lower or equal revision than the last is ignored."""

    request: str
    revision: Count
    paused: bool = False
    rate: Count | None = None
    aborted: bool = False


class Commit(Command, kw_only=True, tag=7):
    """Act on the members of a guarded batch, in the state of this record's position."""

    request: str
    not_after: Time


class Tick(Command, kw_only=True, tag=8):
    """Let the partition do a bounded amount of deferred work. Anything but the last number + 1 is a no-op."""

    tick: Count
    sweep: Count = limits.TICK_SWEEP_MAX
    """Candidates to decide in set-based statements at most; clamped, like the others."""
    single: Count = limits.TICK_SINGLE_MAX
    timers: Count = limits.TICK_TIMERS_MAX
    work: Count = limits.TICK_WORK_MAX


class Level(Command, kw_only=True, tag=9):
    """Raise the partition's schema level. A build that does not know the level stops here."""

    level: Count


# -- reports of participants ---------------------------------------------------------------------------------


class Report(Command, kw_only=True, tag=0):
    """What a participant says of an attempt. One of another attempt than the newest is ignored."""

    id: str
    attempt: Count


class Started(Report, kw_only=True, tag=10):
    """The handler runs."""

    deployment: str | None = None


class Suspended(Report, kw_only=True, tag=11):
    """The participant has let go until something arrives."""

    cancelled: bool = False
    """A cancellation has surfaced in the handler, in this attempt or before."""
    awaiting: tuple[Count, ...] = ()
    """The steps of which one is enough to go on: calls and sleeps. Empty: any child that ends."""


class BackingOff(Report, kw_only=True, tag=12):
    """The attempt failed; it is retried at `retry_at`."""

    retry_at: Time
    failure: str
    retry: Count


class Paused(Report, kw_only=True, tag=13):
    """The attempt failed and the retry policy gives up for now."""

    failure: str
    retry: Count


class Completed(Report, kw_only=True, tag=14):
    """The handler has ended."""

    outcome: str
    """`success`, `failure` or `cancelled`."""
    output: bytes | None = None
    failure: str | None = None


class Steps(Report, kw_only=True, tag=15):
    """The handler has taken steps. A call's edge and the invocation to be created are one commit of this partition."""

    first: Count
    """Number of the first of them; a step that is in the journal already is passed over."""
    steps: tuple[Step, ...]


class Released(Report, kw_only=True, tag=19):
    """Nobody runs the attempt any more: its participant has vanished, or gives it back. It is delivered again."""

    failure: str | None = None
    """Why, where that counts as a failed attempt."""


# -- between partitions --------------------------------------------------------------------------------------


class ChildEnded(Command, kw_only=True, tag=16):
    """To the parent's partition: an attached child has ended, or was refused."""

    parent: str
    child: str
    outcome: str
    output: bytes | None = None
    failure: str | None = None


class EndChildren(Command, kw_only=True, tag=17):
    """To the children's partition: their parent was killed, or asks them to cancel."""

    parent: str
    children: tuple[str, ...]
    action: str
    request: str | None = None
    """The batch behind it."""


class Adopt(Command, kw_only=True, tag=18):
    """To the parent's partition: an imported child is attached to this parent and has not ended."""

    parent: str
    child: str


# -- from whoever carries deliveries ------------------------------------------------------------------------


class Serve(Command, kw_only=True, tag=20):
    """From now on these lanes are delivered and no others; before the first of these, all are.

    A lane is a service, for invocations that are pinned to no deployment, or `@` and a deployment for those that are.
    """

    lanes: tuple[str, ...]
    reclaim: bool = False
    """Whoever carried deliveries before is gone: what is held is taken back and delivered again."""
    tenure: Count = 0
    """Numbers those who carry deliveries, where one may not know that it was replaced: one of a lower number than the
    partition has seen is answered 409 and changes nothing."""


# -- requests ------------------------------------------------------------------------------------------------


class Guard(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the number of matches must satisfy before any of them is touched."""

    max: Count | None = None
    expect: Count | None = None


class Submit(Message, kw_only=True, tag=32):
    """Ask for a batch over all partitions. The first of a request id wins; another body conflicts."""

    request: str
    action: str
    filter: Filter
    """Ages are already absolute."""
    reason: str | None = None
    principal: str = "anonymous"
    guard: Guard | None = None
    rate: Count | None = None
    """Matches a second over the whole request at most."""
    deployment: str | None = None
    dry_run: bool = False
    grace: Duration | None = None
    """For `cancel`: how long after it came into force what it has asked to end and has not ended is killed."""
    untouched: tuple[Count, ...] = ()
    """Of a retry: the partitions that took no part in the batch of `filter.failed_of`. There all else that the filter
    says holds without it."""
    body_digest: bytes | None = None
    """Of the body as it was sent, where ages in it were resolved; without it the fields are compared."""


class RequestControl(Message, kw_only=True, tag=33):
    """Change a request that runs: None leaves a thing as it is."""

    request: str
    paused: bool | None = None
    aborted: bool = False
    rate: Count | None = None
    """0 lifts the limit."""


class Decide(Message, kw_only=True, tag=34):
    """The coordinator's decision on a guarded request; the first on the log counts."""

    request: str
    commit: bool
    reason: str | None = None


class Handler(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One handler of a service."""

    name: str
    shared: bool = False
    """It runs beside others of its key and may only read its state."""


class ServiceSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A service as a deployment has it. Retentions: how long an invocation is kept after its end."""

    name: str
    type: Count = 0
    """0 service, 1 virtual object, 2 workflow."""
    handlers: tuple[Handler, ...]
    retention: Duration = limits.RETENTION_DEFAULT_US
    idempotency_retention: Duration = limits.RETENTION_DEFAULT_US
    """Of those with an idempotency key."""
    workflow_retention: Duration = limits.RETENTION_DEFAULT_US
    """Of a workflow's runs."""


class Register(Message, kw_only=True, tag=36):
    """A deployment and its services. Invocations that start from now on go to the latest that has their service."""

    deployment: str
    """`dp_…`"""
    services: tuple[ServiceSpec, ...]


class Lapse(Message, kw_only=True, tag=35):
    """A timer of a request is over: look whether something must be sent again or given up."""

    request: str


# -- progress ------------------------------------------------------------------------------------------------


class Tally(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Cumulative counts of one batch on one partition. The law:

    matched = ended + applied + signalled + ended_by_other + already_signalled + not_applicable + failed
    """

    matched: Count = 0
    ended: Count = 0
    applied: Count = 0
    signalled: Count = 0
    ended_by_other: Count = 0
    already_signalled: Count = 0
    not_applicable: Count = 0
    failed: Count = 0

    COUNTED: ClassVar[tuple[str, ...]] = (
        "ended",
        "applied",
        "signalled",
        "ended_by_other",
        "already_signalled",
        "not_applicable",
        "failed",
    )

    def adds_up(self) -> bool:
        """Whether the conservation law holds."""
        return self.matched == (
            self.ended
            + self.applied
            + self.signalled
            + self.ended_by_other
            + self.already_signalled
            + self.not_applicable
            + self.failed
        )


FULL: Final = "full"
"""The one reason of a refusal that passes: the partition has no room for another pending batch."""


class Progress(Message, kw_only=True, tag=48):
    """What a partition tells about a batch: cumulative, never a delta. The highest `number` is the newest."""

    request: str
    partition: Count
    number: Count
    """The partition's outbox number for `progress`, dense from 1 over all batches."""
    state: str
    """`running`, `paused`, `prepared`, `completed`, `aborted` or `refused`."""
    position: Count
    """Where on the partition's log the batch came into force."""
    revision: Count
    at: Time
    """Append time of the record that this was told at."""
    tally: Tally
    members: Count = 0
    """Matches that a guarded batch has marked."""
    committed_at: Count | None = None
    """Position of the commit of a guarded batch."""
    propagated: Count = 0
    """Descendants that were ended here because of it, beside the law."""
    cursor_ppm: Count = 0
    """How much of the candidates is decided, in millionths."""
    sent: dict[int, int] = {}
    """Messages sent for it, by destination partition."""
    received: dict[int, int] = {}
    """Messages received for it, by source partition."""
    reason: str | None = None
    awaits_grace: bool = False
    """What it has asked to end and has not ended is still to be killed when its grace is over."""


class RequestState(Message, kw_only=True, tag=49):
    """What the coordinator tells of a request when its state changes."""

    request: str
    number: Count = 0
    """Dense from 1 for each request. It may be told more than once; the highest is the newest."""
    state: str
    at: Time
    tally: Tally
    settled: bool = False
    reason: str | None = None


# -- deliveries ----------------------------------------------------------------------------------------------


class Delivery(Message, kw_only=True, tag=0):
    """What a partition tells whoever runs the handlers of its invocations."""

    id: str
    attempt: Count


class Start(Delivery, kw_only=True, tag=64):
    """Run this attempt."""

    service: str
    handler: str
    key: str | None = None
    type: Count = 0
    shared: bool = False
    input: bytes | None = None
    headers: dict[str, str] = {}
    deployment: str | None = None
    idempotency_key: str | None = None
    retry: Count = 0
    """Attempts that have failed so far."""
    cancelled: bool = False
    """It was asked to cancel: surface that at the first await point behind what the journal has."""
    entries: tuple[Entry, ...] = ()
    """Its journal, or the beginning of it."""
    values: dict[str, bytes] = {}
    """The state of its key, or some of it."""
    more: bool = False
    """The rest follows in `context` messages; it may run only when it has them all."""


class Signal(Delivery, kw_only=True, tag=65):
    """Surface a cancellation at the next await point."""


class Drop(Delivery, kw_only=True, tag=66):
    """Forget this attempt; nothing that it reports counts any more."""


class Context(Delivery, kw_only=True, tag=67):
    """More of an attempt's journal and of the state of its key."""

    entries: tuple[Entry, ...] = ()
    values: dict[str, bytes] = {}
    last: bool = False


class Notify(Delivery, kw_only=True, tag=68):
    """A call that this attempt has made has ended."""

    entry: Entry


# -- dead letters --------------------------------------------------------------------------------------------


class DeadLetter(Message, kw_only=True, tag=80):
    """A record that a partition or the coordinator could not read, kept for an operator."""

    stream: str = "commands"
    """Where it stood."""
    partition: Count
    position: Count
    reason: str
    value: bytes
    """The record as it stood on the log, its first 512 KiB."""


COMMANDS: Final = (
    Invoke, Import, ImportEnd, Act, Batch, Control, Commit, Tick, Level,
    Started, Suspended, BackingOff, Paused, Completed, Steps, Released, ChildEnded, EndChildren, Adopt, Serve,
)  # fmt: skip
REQUESTS: Final = (Submit, RequestControl, Decide, Lapse, Register)
PROGRESS: Final = (Progress, RequestState)
DELIVERIES: Final = (Start, Signal, Drop, Context, Notify)
DEAD_LETTERS: Final = (DeadLetter,)

AnyCommand = (
    Invoke | Import | ImportEnd | Act | Batch | Control | Commit | Tick | Level
    | Started | Suspended | BackingOff | Paused | Completed | Steps | Released | ChildEnded | EndChildren | Adopt
    | Serve
)  # fmt: skip
AnyRequest = Submit | RequestControl | Decide | Lapse | Register
AnyProgress = Progress | RequestState
AnyDelivery = Start | Signal | Drop | Context | Notify


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""A message as bytes. The same message always gives the same bytes."""

decode_command: Final[Any] = msgspec.msgpack.Decoder(AnyCommand).decode
decode_request: Final[Any] = msgspec.msgpack.Decoder(AnyRequest).decode
decode_progress: Final[Any] = msgspec.msgpack.Decoder(AnyProgress).decode
decode_delivery: Final[Any] = msgspec.msgpack.Decoder(AnyDelivery).decode
decode_dead_letter: Final[Any] = msgspec.msgpack.Decoder(DeadLetter).decode

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders raise for bytes that are none of their messages. Which of them says nothing: how deep a
value may be nested depends on the stack of the moment."""


def read_head(value: bytes) -> tuple[int, int] | None:
    """The `kind` and `v` of a record that could not be decoded as a whole; None when it has none.

    The same bytes give the same answer everywhere: msgpack's own unpacker has a stack of fixed depth.
    """
    try:
        pairs = msgpack.unpackb(value, raw=True, strict_map_key=False, object_pairs_hook=tuple)
        head = {key: number for key, number in pairs if key in (b"kind", b"v") and isinstance(number, int)}
        return head[b"kind"], head[b"v"]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None
