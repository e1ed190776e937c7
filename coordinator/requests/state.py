"""What is known of a request: facts taken off the log, and nothing that can be derived from them.

Values are immutable; a step makes new ones. Two requests that were told the same facts are equal but for the
bookkeeping of when something was last heard or sent, whatever the order in which the facts came.
"""

from typing import Final

import msgspec

from coordinator.model.messages import FULL, Progress, Submit

RUNNING: Final = "running"
PAUSED: Final = "paused"
PREPARED: Final = "prepared"
COMPLETED: Final = "completed"
ABORTED: Final = "aborted"
REFUSED: Final = "refused"
PARTITION_STATES: Final = frozenset({RUNNING, PAUSED, PREPARED, COMPLETED, ABORTED, REFUSED})
"""`Progress.state`, all that a partition may say of a batch."""


class Ending(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a batch ended on one partition: its first terminal progress.

    Kept apart from the newest progress because counters move on after it (what was asked to end ends later)
    while the state and the time of the end do not.
    """

    number: int
    state: str
    at: int
    failed: int = 0
    reason: str | None = None


class Partition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one partition has told of the request, and since when it owes an answer."""

    newest: Progress | None = None
    ending: Ending | None = None
    heard_at: int | None = None
    """Append time of the last progress that came, new or not."""
    sent_at: int | None = None
    """When something was last sent to it."""
    resends: int = 0
    """How often that was sent again since it was last heard."""
    owed_since: int | None = None
    """Since when it owes progress; None when it was last heard to owe none."""

    @property
    def awaits_grace(self) -> bool:
        """Whether its grace may still have something to kill there."""
        return self.newest is not None and self.newest.awaits_grace


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a guarded request."""

    commit: bool
    at: int
    reason: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch over all partitions, as the coordinator knows it."""

    id: str
    partitions: tuple[Partition, ...]
    """By number; their count is frozen when the request is submitted. None for one refused on sight."""
    submission: Submit | None = None
    """None while only progress was heard, when that stream is read ahead of `requests`."""
    submitted_at: int = 0
    revision: int = 0
    """Controls accepted so far, a refusal by the guard included; what partitions must have acknowledged."""
    paused: bool = False
    rate: int | None = None
    """Matches a second over all partitions at most; None for no limit."""
    aborted: bool = False
    """An operator wants it ended. Never taken back."""
    decision: Decision | None = None
    asked_at: int | None = None
    """When a decision was last asked for."""
    told: int = 0
    """How often its state was told on `progress`."""

    @property
    def guarded(self) -> bool:
        """Whether it prepares first and acts on a decision. A dry run touches nothing, so needs no guard."""
        asked = self.submission
        return asked is not None and asked.guard is not None and not asked.dry_run

    @property
    def undecided(self) -> bool:
        """Whether it still waits for its decision; an abort makes that pointless."""
        return self.guarded and self.decision is None and not self.aborted

    @property
    def committed(self) -> bool:
        return self.decision is not None and self.decision.commit

    @property
    def refused(self) -> bool:
        return self.decision is not None and not self.decision.commit

    @property
    def stopping(self) -> bool:
        """Whether partitions are to end it without finishing it."""
        return self.aborted or self.refused


def queued(newest: Progress) -> bool:
    """Whether the partition turned the batch away for now and waits for it to be sent again."""
    return newest.state == REFUSED and newest.reason == FULL


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Request)


def encode(request: Request) -> bytes:
    """The request as it is stored."""
    return _encoder.encode(request)


def decode(blob: bytes) -> Request:
    """The opposite of `encode`. Raises msgspec.DecodeError."""
    return _decoder.decode(blob)
