"""The five streams: what stands on them, who writes and who reads it, and where a record has to go.

The one part of the contract that the message types do not say themselves. A new message needs a place in
`OPERATIONS`; without one nothing is generated.
"""

from typing import Final, NamedTuple

from coordinator.logs.port import Stream
from coordinator.model import limits, messages
from coordinator.model.messages import Message

Kind = type[Message]


class Channel(NamedTuple):
    """A stream, as its writers and readers must know it."""

    stream: Stream
    kinds: tuple[Kind, ...]
    summary: str
    partitions: str
    """How many it has, and which of them a record goes to."""
    key: str
    """The Kafka key of a record."""
    record_bytes_max: int


class Operation(NamedTuple):
    """Messages of one channel with the same writers and readers."""

    name: str
    stream: Stream
    receives: bool
    """Whether the system takes these from outside. What its parts tell each other counts as sent."""
    writers: str
    readers: str
    kinds: tuple[Kind, ...]
    summary: str


_BY_REQUEST: Final = "The request id as UTF-8. Kafka's default partitioner (murmur2) chooses the partition by it."

CHANNELS: Final = (
    Channel(
        Stream.REQUESTS,
        messages.REQUESTS,
        "What operators ask of all partitions at once.",
        "One or more; all records of a request stand in one of them, so that they have an order.",
        _BY_REQUEST,
        limits.REQUEST_RECORD_BYTES_MAX,
    ),
    Channel(
        Stream.COMMANDS,
        messages.COMMANDS,
        "What a partition is to do. A batch is in force at its position here.",
        "P, fixed when the log is made. A record that names an invocation goes to the partition of that id, "
        "`partition_key * P >> 64`; what concerns a whole partition is written to it by number.",
        "None is needed, and none is read: always name the partition.",
        limits.RECORD_BYTES_MAX,
    ),
    Channel(
        Stream.PROGRESS,
        messages.PROGRESS,
        "How requests come along: per partition, and as a whole.",
        "As many as `requests`, chosen in the same way.",
        _BY_REQUEST,
        limits.RECORD_BYTES_MAX,
    ),
    Channel(
        Stream.DELIVERIES,
        messages.DELIVERIES,
        "Attempts that participants are to run, signal or drop.",
        "P; what stands on one comes from, and is reported to, the partition of `commands` with the same number.",
        "None.",
        limits.RECORD_BYTES_MAX + 4 * 1024,
    ),
    Channel(
        Stream.DEAD_LETTERS,
        messages.DEAD_LETTERS,
        "Records that could not be read, kept for an operator.",
        "One.",
        "None.",
        limits.RECORD_BYTES_MAX + 4 * 1024,
    ),
)

OPERATIONS: Final = (
    Operation(
        "submitRequests",
        Stream.REQUESTS,
        True,
        "anyone",
        "the coordinator",
        (messages.Submit, messages.RequestControl),
        "Ask for a batch over all partitions, or change one that runs.",
    ),
    Operation(
        "decideRequests",
        Stream.REQUESTS,
        False,
        "the coordinator",
        "the coordinator",
        (messages.Decide, messages.Lapse),
        "The coordinator's notes to itself: a decision or an expired timer counts once it is read back.",
    ),
    Operation(
        "registerDeployments",
        Stream.REQUESTS,
        True,
        "participants",
        "the coordinator",
        (messages.Register,),
        "The services of a deployment, before the first of its participants takes any work.",
    ),
    Operation(
        "commandInvocations",
        Stream.COMMANDS,
        True,
        "anyone",
        "partitions",
        (messages.Invoke, messages.Act, messages.Import, messages.ImportEnd),
        "Create an invocation, act on one, or import some. An import ends with one `ImportEnd` on every partition.",
    ),
    Operation(
        "reportAttempts",
        Stream.COMMANDS,
        True,
        "participants",
        "partitions",
        (
            messages.Started,
            messages.Suspended,
            messages.BackingOff,
            messages.Paused,
            messages.Completed,
            messages.Steps,
            messages.Released,
        ),
        "What became of an attempt. Reports of another attempt than the newest are ignored.",
    ),
    Operation(
        "commandBatches",
        Stream.COMMANDS,
        False,
        "the coordinator",
        "partitions",
        (messages.Batch, messages.Control, messages.Commit),
        "One record for every partition of the request, sent again until the partition's progress answers it.",
    ),
    Operation(
        "tickPartitions",
        Stream.COMMANDS,
        False,
        "the partition's owner",
        "partitions",
        (messages.Tick,),
        "Bounded deferred work. Numbered, so that a second owner or a repetition does no harm.",
    ),
    Operation(
        "serveLanes",
        Stream.COMMANDS,
        False,
        "whoever carries deliveries",
        "partitions",
        (messages.Serve,),
        "For which services and deployments there is a participant.",
    ),
    Operation(
        "raiseLevel",
        Stream.COMMANDS,
        True,
        "operators",
        "partitions",
        (messages.Level,),
        "Raise a partition's schema level, once every build that may own it knows the level.",
    ),
    Operation(
        "tellPartitions",
        Stream.COMMANDS,
        False,
        "partitions",
        "partitions",
        (messages.Invoke, messages.Act, messages.ChildEnded, messages.EndChildren, messages.Adopt),
        "What follows elsewhere from what happened here; `source` and `number` are set.",
    ),
    Operation(
        "followProgress",
        Stream.PROGRESS,
        False,
        "partitions",
        "the coordinator and anyone",
        (messages.Progress,),
        "Cumulative counters of one request on one partition.",
    ),
    Operation(
        "followRequests",
        Stream.PROGRESS,
        False,
        "the coordinator",
        "anyone",
        (messages.RequestState,),
        "The state of a request as a whole, told at each change.",
    ),
    Operation(
        "runAttempts",
        Stream.DELIVERIES,
        False,
        "partitions",
        "participants",
        (messages.Start, messages.Context, messages.Notify, messages.Signal, messages.Drop),
        "What participants are to do with an attempt.",
    ),
    Operation(
        "inspectDeadLetters",
        Stream.DEAD_LETTERS,
        False,
        "partitions and the coordinator",
        "operators",
        (messages.DeadLetter,),
        "What could not be read, with the reason.",
    ),
)

KINDS: Final = tuple(kind for channel in CHANNELS for kind in channel.kinds)
"""Every message there is, by stream, in the order of `messages`."""


def number(kind: Kind) -> int:
    """The number that stands in a message's `kind`."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int), f"{kind.__name__} has no number of its own"
    return tag


def writers(kind: Kind) -> str:
    """Who may write this message."""
    found = [operation.writers for operation in OPERATIONS if kind in operation.kinds]
    if not found:
        raise LookupError(f"{kind.__name__} is in no operation of {__name__}.OPERATIONS: say who writes and reads it")
    return ", ".join(found)
