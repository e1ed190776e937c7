"""Those waiting for a delivery, in lanes, by ordinal.

Under load each invocation is pushed and soon popped, so the front of a lane is held in memory, and what is
pushed and popped between two commits never reaches the file.
"""

from collections import deque
from itertools import islice
from typing import Final

import apsw

AHEAD: Final = 250
"""Entries of a lane that are held in memory; there may be thousands of lanes."""

# Skips from lane to lane, however many wait in each.
_LANES: Final = """
WITH RECURSIVE found(lane) AS (
    SELECT min(lane) FROM ready
    UNION ALL
    SELECT (SELECT min(lane) FROM ready WHERE lane > found.lane) FROM found WHERE lane IS NOT NULL
) SELECT lane FROM found WHERE lane IS NOT NULL"""


class _Lane:
    """One lane that has entries, as (ordinal, seq) in three stretches: `front`, the file's rest, `new`."""

    __slots__ = ("front", "more", "new")

    def __init__(self, *, more: bool) -> None:
        self.front: deque[tuple[int, int]] = deque()
        """The first of those in the file."""
        self.more = more
        """Whether there may be others in the file."""
        self.new: deque[tuple[int, int]] = deque()
        """Those that are not in the file."""


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
            there = self._lanes[lane] = _Lane(more=False)
        there.new.append((ordinal, seq))

    def pop(self, lane: str) -> int | None:
        there = self._lanes.get(lane)
        if there is None:
            return None
        if not there.front and there.more:
            self._look_ahead(lane, there)
        if there.front:
            ordinal, seq = there.front.popleft()
            self._popped.append((lane, ordinal))
        elif there.new:
            _, seq = there.new.popleft()
        else:
            seq = None
        if not (there.front or there.more or there.new):
            del self._lanes[lane]
        return seq

    def _look_ahead(self, lane: str, there: _Lane) -> None:
        self._write_popped()
        sql = "SELECT ordinal, seq FROM ready WHERE lane = ? ORDER BY ordinal LIMIT ?"
        there.front.extend(self._connection.execute(sql, (lane, AHEAD)))
        there.more = len(there.front) == AHEAD

    def write(self) -> None:
        """Bring the file up to date."""
        self._write_popped()
        rows: list[tuple[str, int, int]] = []
        for lane, there in self._lanes.items():
            if not there.new:
                continue
            rows += [(lane, *entry) for entry in there.new]
            if not there.more:
                room = AHEAD - len(there.front)
                there.more = len(there.new) > room
                there.front.extend(islice(there.new, room))
            there.new.clear()
        if rows:
            self._connection.executemany("INSERT INTO ready VALUES (?, ?, ?)", rows)

    def _write_popped(self) -> None:
        if self._popped:
            self._connection.executemany("DELETE FROM ready WHERE lane = ? AND ordinal = ?", self._popped)
            self._popped.clear()

    def reload(self) -> None:
        """Forget what is not in the file."""
        self._popped.clear()
        self._lanes = {lane: _Lane(more=True) for (lane,) in self._connection.execute(_LANES)}
