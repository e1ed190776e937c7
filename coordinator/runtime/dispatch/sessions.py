"""Attempts on their way to a participant, and the sessions that have them.

A session is one participant process while it is connected. It has a lease, which each of its requests renews, and
at most as many attempts as it said it takes at once.
"""

from collections import OrderedDict, deque
from typing import Final

from coordinator.model import framing, limits


class Attempt:
    """One that a partition has delivered and nobody has ended."""

    __slots__ = ("frames", "id", "lane", "loading", "number", "partition", "queue", "sent", "session")

    def __init__(self, id: str, number: int, lane: str, partition: int, start: bytes, *, loading: bool) -> None:
        self.id: Final = id
        self.number: Final = number
        self.lane: Final = lane
        self.partition: Final = partition
        self.frames: list[bytes] = [start]
        """Deliveries as they stand on the log that have not gone out yet."""
        self.loading = loading
        """Whether more of its journal is to come before it may be handed on."""
        self.queue: OrderedDict[str, Attempt] | None = None
        """Where it waits for a session."""
        self.session: Session | None = None
        """Who has it."""
        self.sent = False
        """Whether it has gone out: its session may be running it."""


class Session:
    """A participant that is connected."""

    def __init__(self, id: str, deployment: str, capacity: int, now_us: int) -> None:
        self.id: Final = id
        self.deployment: Final = deployment
        self.capacity: Final = capacity
        self.attempts: dict[str, Attempt] = {}
        """What it has, by invocation: sent, or about to be."""
        self.stream = 0
        """Number of its newest stream of deliveries; 0 before the first."""
        self.streaming = False
        """Whether that one is open."""
        self._outgoing: OrderedDict[str, Attempt] = OrderedDict()
        self._drops: deque[bytes] = deque()
        self._heard_at = now_us
        self._streamed_at = now_us

    # -- the lease -------------------------------------------------------------------------------------------

    def heard(self, now_us: int) -> None:
        """It has asked for something."""
        self._heard_at = now_us

    def renew(self, now_us: int) -> None:
        """Its lease begins anew, whether it listens or not."""
        self._heard_at = self._streamed_at = now_us

    def stream_opened(self, now_us: int) -> int:
        """It listens from now on; the number of the stream."""
        self.stream += 1
        self.streaming = True
        self._heard_at = now_us
        return self.stream

    def stream_closed(self, now_us: int) -> None:
        """It listens no more."""
        self.streaming = False
        self._streamed_at = now_us

    def expired(self, now_us: int) -> bool:
        """Whether it has been silent, or deaf, for longer than its lease."""
        deaf = not self.streaming and self._streamed_at + limits.LEASE_US <= now_us
        return deaf or self._heard_at + limits.LEASE_US <= now_us

    # -- what goes out ---------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether it may be given another attempt."""
        return self.streaming and len(self.attempts) < self.capacity

    def give(self, attempt: Attempt) -> None:
        """It has this attempt from now on."""
        assert attempt.session is None
        assert self.has_room
        attempt.session = self
        self.attempts[attempt.id] = attempt
        self._outgoing[attempt.id] = attempt

    def tell(self, attempt: Attempt, value: bytes) -> None:
        """Let it know something of an attempt that it has."""
        attempt.frames.append(value)
        self._outgoing[attempt.id] = attempt

    def drop(self, value: bytes) -> None:
        """Let it know that an attempt is over, ahead of everything else."""
        self._drops.append(value)

    def lose(self, attempt: Attempt) -> None:
        """It no longer has this attempt; nothing more of it goes out."""
        del self.attempts[attempt.id]
        self._outgoing.pop(attempt.id, None)
        attempt.session = None

    @property
    def has_outgoing(self) -> bool:
        """Whether something waits to go out."""
        return bool(self._drops or self._outgoing)

    def take(self, bytes_max: int) -> bytes:
        """What goes out next, as frames: some attempts' worth, about so many bytes. It counts as sent."""
        taken: list[bytes] = []
        size = 0
        while self._drops and size < bytes_max:
            size += self._add(taken, self._drops.popleft())
        while self._outgoing and size < bytes_max:
            _, attempt = self._outgoing.popitem(last=False)
            for value in attempt.frames:
                size += self._add(taken, value)
            attempt.frames = []
            attempt.sent = True
        return b"".join(taken)

    @staticmethod
    def _add(taken: list[bytes], value: bytes) -> int:
        taken.append(framing.frame(value))
        return len(value) + framing.HEAD_BYTES
