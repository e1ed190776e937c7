"""What this process's owners tell, as a stream for each process that listens.

A stream begins with how each partition stands and what it has applied, so who listens anew knows where it is. A
listener that does not keep up is cut off: it comes again and begins in the same way. Owners never wait for one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from coordinator.model import framing
from coordinator.runtime.channel import Applied, Standing, Told

QUEUED_BYTES_MAX: Final = 16 << 20
KEEP_ALIVE_S: Final = 1.0
CHUNK_BYTES: Final = 256 * 1024

_encode: Final = msgspec.msgpack.Encoder().encode


class _Listener:
    """Frames that one listener has not been sent."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.news = asyncio.Event()
        self.over = False

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.bytes += len(frame)
        self.over = self.over or self.bytes > QUEUED_BYTES_MAX
        self.news.set()

    def take(self) -> bytes:
        taken: list[bytes] = []
        size = 0
        while self.frames and size < CHUNK_BYTES:
            taken.append(self.frames.popleft())
            size += len(taken[-1])
        self.bytes -= size
        return b"".join(taken)


class Telling:
    """Everything but `tell` in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: set[_Listener] = set()
        self._standings: dict[int, Standing] = {}
        self._positions: dict[int, int] = {}
        self._over = False

    def tell(self, told: Told) -> None:
        """An owner's word, from any thread."""
        frame = framing.frame(_encode(told))
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, told, frame)

    def forget(self, partition: int) -> None:
        """This process owns the partition no longer."""
        self._standings.pop(partition, None)
        self._positions.pop(partition, None)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Frames, until the listener is too slow or the process ends; an empty one now and then as a sign of life."""
        listener = _Listener()
        for standing in self._standings.values():
            listener.put(framing.frame(_encode(standing)))
        for partition, position in self._positions.items():
            listener.put(framing.frame(_encode(Applied(partition, position, []))))
        self._listeners.add(listener)
        try:
            yield framing.EMPTY
            while not self._over and not listener.over:
                listener.news.clear()
                chunk = listener.take()
                if chunk:
                    yield chunk
                    continue
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await listener.news.wait()
                except TimeoutError:
                    yield framing.EMPTY
        finally:
            self._listeners.discard(listener)

    def end(self) -> None:
        """The process is ending: let all streams end, and begin none."""
        self._over = True
        for listener in self._listeners:
            listener.news.set()

    def _spread(self, told: Told, frame: bytes) -> None:
        if isinstance(told, Standing):
            self._standings[told.partition] = told
        else:
            self._positions[told.partition] = told.position
        for listener in self._listeners:
            listener.put(frame)
