"""Those waiting for a delivery, in lanes, by ordinal.

Under load each invocation is pushed and soon popped, so the front of a lane is held in memory, and what is
pushed and popped between two commits never reaches the file. Only the lanes that are asked for are looked into:
however much waits in others, it is not read.
"""

from collections import deque
from collections.abc import Collection
from heapq import heappop, heappush
from typing import Final

import apsw

AHEAD: Final = 250
"""Entries of a lane that are read at once; as many lanes may be in use, more would fill the memory."""

# Skips from lane to lane, however many wait in each.
_LANES: Final = """
WITH RECURSIVE found(lane) AS (
    SELECT min(lane) FROM ready
    UNION ALL
    SELECT (SELECT min(lane) FROM ready WHERE lane > found.lane) FROM found WHERE lane IS NOT NULL
) SELECT lane FROM found WHERE lane IS NOT NULL"""


class _Lane:
    """One lane that may have entries, partly in memory."""

    __slots__ = ("front", "in_file", "new")

    def __init__(self, *, in_file: bool) -> None:
        self.new: list[tuple[int, int]] = []
        """A heap of what is not in the file, as (ordinal, seq)."""
        self.front: deque[tuple[int, int]] = deque()
        """The first in the file that were not popped, in order."""
        self.in_file = in_file
        """Whether there may be others in the file behind the front."""


class Ready:
    """The lanes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._lanes: dict[str, _Lane] = {}
        self._popped: list[tuple[str, int]] = []
        """(lane, ordinal) of those in the file that were popped."""
        self.reload()

    def push(self, lane: str, ordinal: int, seq: int) -> None:
        there = self._lanes.get(lane)
        if there is None:
            there = self._lanes[lane] = _Lane(in_file=False)
        heappush(there.new, (ordinal, seq))

    def pop(self, lanes: Collection[str] | None) -> tuple[str, int] | None:
        firsts = []
        # The shorter of both leads through this, since it is asked for each delivery.
        for lane in list(self._lanes) if lanes is None else self._lanes.keys() & lanes:
            first = self._first(lane)
            if first is not None:
                firsts.append((*first, lane))
        if not firsts:
            return None
        ordinal, seq, lane = min(firsts)
        there = self._lanes[lane]
        if there.front and there.front[0][0] == ordinal:
            there.front.popleft()
            self._popped.append((lane, ordinal))
        else:
            heappop(there.new)
        return lane, seq

    def _first(self, lane: str) -> tuple[int, int] | None:
        """(ordinal, seq) of the first entry; a lane that has none is forgotten."""
        there = self._lanes[lane]
        if not there.front and there.in_file:
            self._load(lane, there)
        if there.front and (not there.new or there.front[0] < there.new[0]):
            return there.front[0]
        if there.new:
            return there.new[0]
        del self._lanes[lane]
        return None

    def _load(self, lane: str, there: _Lane) -> None:
        self._write_popped()
        sql = "SELECT ordinal, seq FROM ready WHERE lane = ? ORDER BY ordinal LIMIT ?"
        there.front.extend(self._connection.execute(sql, (lane, AHEAD)))
        there.in_file = len(there.front) == AHEAD

    def write(self) -> None:
        """Bring the file up to date."""
        self._write_popped()
        rows = []
        for lane, there in self._lanes.items():
            if not there.new:
                continue
            if there.front and there.new[0] < there.front[-1]:
                there.front.clear()
            rows += [(lane, *entry) for entry in there.new]
            there.new.clear()
            there.in_file = True
        if rows:
            self._connection.executemany("INSERT INTO ready VALUES (?, ?, ?)", rows)

    def _write_popped(self) -> None:
        if self._popped:
            self._connection.executemany("DELETE FROM ready WHERE lane = ? AND ordinal = ?", self._popped)
            self._popped.clear()

    def reload(self) -> None:
        """Forget what is not in the file."""
        self._popped.clear()
        self._lanes = {lane: _Lane(in_file=True) for (lane,) in self._connection.execute(_LANES)}
