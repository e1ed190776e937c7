"""Which deliveries are out, and since which position.

They are few (`DELIVERIES_MAX`), so all of them are held in memory, and the file is told at the commit. A delivery
that goes out and ends between two commits never reaches it.
"""

import apsw


class Held:
    """The deliveries that are out."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._positions: dict[int, int] = {}
        """As it is, by seq."""
        self._stored: set[int] = set()
        """Seqs in the file."""
        self._changed: dict[int, None] = {}
        self.reload()

    def put(self, seq: int, position: int) -> None:
        self._positions[seq] = position
        self._changed[seq] = None

    def remove(self, seq: int) -> None:
        if self._positions.pop(seq, None) is not None:
            self._changed[seq] = None

    def before(self, position: int, limit: int) -> list[int]:
        found = sorted(seq for seq, out_since in self._positions.items() if out_since < position)
        return found[:limit]

    def write(self) -> None:
        """Bring the file up to date."""
        if not self._changed:
            return
        out = [(seq, self._positions[seq]) for seq in self._changed if seq in self._positions]
        back = [seq for seq in self._changed if seq not in self._positions and seq in self._stored]
        self._connection.executemany("INSERT OR REPLACE INTO held VALUES (?, ?)", out)
        self._connection.executemany("DELETE FROM held WHERE seq = ?", [(seq,) for seq in back])
        self._stored.update(seq for seq, _ in out)
        self._stored.difference_update(back)
        self._changed.clear()

    def reload(self) -> None:
        """Forget what is not in the file."""
        self._positions = dict(self._connection.execute("SELECT seq, position FROM held"))
        self._stored = set(self._positions)
        self._changed.clear()
