"""What a worker process tells the server process that started it.

Frames as the log's sockets use them; both ends are of one start of one build, so nothing is versioned.
"""

from typing import Final

import msgspec

from coordinator.logs import frames
from coordinator.partition.outputs import Answer


class Applied(frames.Message, tag=1):
    """A run was committed."""

    partition: int
    position: int
    answers: list[Answer]


class Standing(frames.Message, tag=2):
    """How a partition's owner is doing; told once a second and when it stops."""

    partition: int
    took_over: bool
    failure: str | None
    records: int
    ticks: int
    longest_step_us: int
    snapshot_position: int | None = None
    """Of the newest snapshot; None while there is none, or while it is not known."""
    snapshot_at: int | None = None
    """When that was made, in microseconds since the epoch."""
    snapshot_failures: int = 0
    """Snapshots that this worker could not make."""
    unpublished: int = 0
    """Entries of the outbox that the log has not acknowledged."""


Told = Applied | Standing
TOLD: Final[msgspec.msgpack.Decoder[Told]] = msgspec.msgpack.Decoder(Told)
