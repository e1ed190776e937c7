"""Waiting for what partitions make of commands.

A command's answer is known by its partition and position once a worker has committed it. It may come before
the sender has learned the position, so answers are kept for a while; all of this runs in one event loop.
"""

import asyncio
import heapq
from collections.abc import Sequence
from typing import Final

from coordinator.partition.outputs import Answer
from coordinator.runtime.errors import UnavailableError

KEPT_MAX: Final = 65_536
"""Answers kept per partition for senders that ask late."""


class Answers:
    """The answers of one partition."""

    def __init__(self) -> None:
        self.applied = -1
        """Position that the partition is known to have applied."""
        self._kept: dict[int, Answer] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._asked = 0

    def told(self, position: int, answers: Sequence[Answer]) -> None:
        """A worker has committed up to a position."""
        kept = self._kept
        for answer in answers:
            kept[answer.position] = answer
        excess = len(kept) - KEPT_MAX
        if excess > 0:
            for old in list(kept)[:excess]:
                del kept[old]
        self.applied = max(self.applied, position)
        while self._waiting and self._waiting[0][0] <= self.applied:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def at(self, positions: Sequence[int], timeout_s: float) -> list[Answer]:
        """The answers at these ascending positions, once all are applied. Raises TimeoutError.

        Raises UnavailableError when one is lost: the worker ended between its commit and its word of it.
        """
        last = positions[-1]
        if last > self.applied:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._asked += 1
            heapq.heappush(self._waiting, (last, self._asked, future))
            await asyncio.wait_for(future, timeout_s)
        kept = self._kept
        try:
            return [kept.pop(position) for position in positions]
        except KeyError:
            raise UnavailableError("it is applied, but the answer was lost with its worker; look what it did") from None

    def fail(self, error: Exception) -> None:
        """Nobody owns the partition: wake all that wait with this error."""
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error)
