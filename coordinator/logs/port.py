"""The port of the log: what every adapter does, in terms of streams, partitions and positions.

A log is a set of streams, each a fixed number of partitions, each a sequence of records at dense positions
from 0. All that is decided elsewhere rests on four promises, which the contract suite holds every adapter to:

- an append that was acknowledged is durable, as its adapter says what that means, and whoever reads never sees what
  is not;
- in each partition positions are handed out in the order of the appends of one caller, without gaps, and never again,
  not even after everything was trimmed;
- the append time is set by the log, once, and is the same for every reader: it is the only clock that the machines
  know. It need not be that of the caller, and on Kafka it goes back when a broker's clock does: who needs one that
  never does takes the latest so far;
- a read below what is retained is an error and never a silent jump.

An append of several entries is one call and not one unit. The entries of one partition are appended in the order given,
though others' may come between them; those of different partitions become readable in no order. (The embedded log
does append all or none, at once. Nothing may rely on that.)

A failed append says nothing about its entries: of each partition a beginning of them may be on the log, or may turn
up later. Who appends again must therefore carry something by which the receiver recognizes a repetition, and must
append again from the first that was not acknowledged.

Calls are synchronous and may block. Errors are of four kinds: the caller's (`ValueError`, `TrimmedError`,
`RecordTooLargeError`, `PartitionsDifferError`), somebody else's hold on the log (`LogLockedError`,
`LogGoneError`), another log under the same name (`LogReplacedError`), after which a person must look, and a log that
cannot do this now (`LogError`), where the caller tries again, with growing pauses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import NamedTuple, Protocol

from coordinator.model.limits import LOG_VALUE_BYTES_MAX

# What one call may append; a run of the partition machine stays far below.
SUBMIT_BYTES_MAX = 16 * 1024 * 1024
SUBMIT_ENTRIES_MAX = 65_536


class Stream(StrEnum):
    REQUESTS = "requests"
    COMMANDS = "commands"
    PROGRESS = "progress"
    DELIVERIES = "deliveries"
    DEAD_LETTERS = "dead-letters"


class Record(NamedTuple):
    position: int
    appended_at: int  # microseconds since the epoch, UTC; never decreasing within a partition
    value: bytes


class Entry(NamedTuple):
    stream: Stream
    partition: int
    value: bytes


class Bounds(NamedTuple):
    first: int  # the first position that is retained; equal to `end` when nothing is
    end: int  # the position that the next record gets


class LogError(Exception):
    """The log cannot do this, or can do nothing any more; the text says what to do about it."""


class TrimmedError(LogError):
    """What was asked for has been trimmed."""

    def __init__(self, stream: Stream, partition: int, start: int, first: int) -> None:
        super().__init__(f"position {start} of {stream}/{partition} was trimmed, {first} is the first left")
        self.stream = stream
        self.partition = partition
        self.start = start
        self.first = first


class LogGoneError(LogError):
    """The process that owns the log is gone, or this end of the connection to it was closed."""


class LogReplacedError(LogError):
    """What stands under the log's name is not the log that was opened: it must not be read on, and not appended to."""


class LogUnreachableError(LogError):
    """Nobody answers where the log should be, or not in time."""


class LogLockedError(LogError):
    """Another process owns the log."""


class PartitionsDifferError(LogError):
    """The log was created with other numbers of partitions."""


class RecordTooLargeError(LogError):
    """A record, or what one call wants to append, is over its limit. Nothing of the call was appended."""


class ReadableLog(Protocol):
    """A log for who only reads it. Every method may be called from any thread."""

    @property
    def identity(self) -> str:
        """Names this log for good: no other log has it, nor one that is made later in its place."""

    def partitions(self, stream: Stream) -> int: ...

    def read(self, stream: Stream, partition: int, start: int, *, records_max: int, bytes_max: int) -> list[Record]:
        """The records from `start` on: at most so many, with values of at most so many bytes in all, but at
        least one if there is one; none at the end. Raises TrimmedError when `start` is below the first retained.
        """

    def bounds(self, stream: Stream, partition: int) -> Bounds: ...

    def close(self) -> None:
        """Finish what was submitted, then let go of the log; a second time does nothing.

        Not to be called by a future's callback, which runs on a thread that this waits for.
        """


class Log(ReadableLog, Protocol):
    """One log. Every method may be called from any thread."""

    def submit(self, entries: Sequence[Entry]) -> Future[list[int]]:
        """Append the entries; the future has their positions, in the order given, once all of them are durable.

        What one thread appends to a partition is there in the order of its calls. Waits while too much is outstanding.
        Raises ValueError, RecordTooLargeError or LogError, and then nothing was appended; the future fails with
        LogError.
        """

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """`submit`, waited for."""

    def trim(self, stream: Stream, partition: int, below: int) -> None:
        """Let go of every record below this position, for good; beyond the end means all of them."""

    def wait(self, stream: Stream, partition: int, position: int, timeout_s: float) -> bool:
        """Block until there is a record at `position` (true) or the time is up (false).

        Raises LogError when the log is closed meanwhile, LogGoneError when its owner went away. A log that cannot be
        reached may wait in vain; the next read says so.
        """


def check_partition(counts: Mapping[Stream, int], stream: Stream, partition: int) -> None:
    if not 0 <= partition < counts.get(stream, 0):
        raise ValueError(f"the log has no partition {stream}/{partition}")


def check_entries(counts: Mapping[Stream, int], entries: Sequence[Entry]) -> int:
    """The bytes of the entries' values, once it is clear that the entries may be appended."""
    if len(entries) > SUBMIT_ENTRIES_MAX:
        raise RecordTooLargeError(f"{len(entries)} entries in one append, at most {SUBMIT_ENTRIES_MAX} go")
    total = 0
    for stream, partition, value in entries:
        if not 0 <= partition < counts.get(stream, 0):
            raise ValueError(f"the log has no partition {stream}/{partition}")
        total += len(value)
        if len(value) > LOG_VALUE_BYTES_MAX:
            raise RecordTooLargeError(
                f"a record of {len(value)} bytes for {stream}/{partition}, at most {LOG_VALUE_BYTES_MAX} go"
            )
    if total > SUBMIT_BYTES_MAX:
        raise RecordTooLargeError(f"{total} bytes in one append, at most {SUBMIT_BYTES_MAX} go")
    return total
