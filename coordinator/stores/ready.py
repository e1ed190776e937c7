"""Those waiting for a delivery, by ordinal.

Under load each invocation is pushed and soon popped, so the front of the table is held in memory, and what is
pushed and popped between two commits never reaches the file.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Final

import apsw

AHEAD: Final = 1_000


class Ready:
    """The queue, partly in memory."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._new: list[tuple[int, int]] = []
        """A heap of what is not in the file."""
        self._front: deque[tuple[int, int]] = deque()
        """The first in the file that were not popped, in order."""
        self._popped: list[tuple[int]] = []
        """Ordinals in the file that were."""
        self._more = True
        """Whether there may be others in the file behind the front."""

    def push(self, ordinal: int, seq: int) -> None:
        heappush(self._new, (ordinal, seq))

    def pop(self) -> int | None:
        if not self._front and self._more:
            self._load()
        if self._front and (not self._new or self._front[0] < self._new[0]):
            ordinal, seq = self._front.popleft()
            self._popped.append((ordinal,))
            return seq
        return heappop(self._new)[1] if self._new else None

    def _load(self) -> None:
        self._write_popped()
        sql = "SELECT ordinal, seq FROM ready ORDER BY ordinal LIMIT ?"
        self._front.extend(self._connection.execute(sql, (AHEAD,)))
        self._more = len(self._front) == AHEAD

    def write(self) -> None:
        self._write_popped()
        if not self._new:
            return
        if self._front and min(self._new) < self._front[-1]:
            self._front.clear()
        self._connection.executemany("INSERT INTO ready VALUES (?, ?)", self._new)
        self._new.clear()
        self._more = True

    def _write_popped(self) -> None:
        if self._popped:
            self._connection.executemany("DELETE FROM ready WHERE ordinal = ?", self._popped)
            self._popped.clear()

    def clear(self) -> None:
        self._new.clear()
        self._front.clear()
        self._popped.clear()
        self._more = True
