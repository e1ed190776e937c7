"""Which deliveries are out, since which position, and of which lane.

They are few (`DELIVERIES_MAX` of a lane), so all of them are held in memory, and the file is told at the commit. A
delivery that goes out and ends between two commits never reaches it.
"""

from typing import NamedTuple

import apsw


class Out(NamedTuple):
    """A delivery that is out."""

    position: int
    lane: str


class Held:
    """The deliveries that are out."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._out: dict[int, Out] = {}
        """As it is, by seq."""
        self._stored: set[int] = set()
        """Seqs in the file."""
        self._changed: dict[int, None] = {}
        self.reload()

    def put(self, seq: int, position: int, lane: str) -> None:
        self._out[seq] = Out(position, lane)
        self._changed[seq] = None

    def remove(self, seq: int) -> str:
        self._changed[seq] = None
        return self._out.pop(seq).lane

    def before(self, position: int, limit: int) -> list[int]:
        found = sorted(seq for seq, out in self._out.items() if out.position < position)
        return found[:limit]

    def write(self) -> None:
        """Bring the file up to date."""
        if not self._changed:
            return
        out = [(seq, *self._out[seq]) for seq in self._changed if seq in self._out]
        back = [seq for seq in self._changed if seq not in self._out and seq in self._stored]
        self._connection.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", out)
        self._connection.executemany("DELETE FROM held WHERE seq = ?", [(seq,) for seq in back])
        self._stored.update(seq for seq, _, _ in out)
        self._stored.difference_update(back)
        self._changed.clear()

    def reload(self) -> None:
        """Forget what is not in the file."""
        stored = self._connection.execute("SELECT seq, position, lane FROM held")
        self._out = {seq: Out(position, lane) for seq, position, lane in stored}
        self._stored = set(self._out)
        self._changed.clear()
