"""What handlers leave behind: their journals, and the state of their keys.

Entries of journals are held back and written many at a time: at the commit, and before a statement that must see
them. A step is often entered and ended within one run, and is then written once. What is read of a journal soon
after is mostly the entry that a call's end completes, which is found here without the file.

A journal is not removed with its row, for it may be long: what is left of it is dropped a few entries at a time.
"""

from typing import Final

import apsw
import msgspec

from coordinator.model.journal import Entry
from coordinator.stores.statements import Statements

_encode: Final = msgspec.msgpack.Encoder().encode
to_entry: Final = msgspec.msgpack.Decoder(Entry).decode

# Skips from row to row, however long their journals are.
_KEPT: Final = """
WITH RECURSIVE kept(seq) AS (
    SELECT min(seq) FROM journal WHERE seq BETWEEN ?1 AND ?2
    UNION ALL
    SELECT (SELECT min(seq) FROM journal WHERE seq > kept.seq AND seq <= ?2) FROM kept WHERE seq IS NOT NULL
) SELECT seq, seq IN (SELECT seq FROM invocation) FROM kept WHERE seq IS NOT NULL LIMIT ?3"""
_DROP: Final = """
DELETE FROM journal WHERE seq = ?1
AND step IN (SELECT step FROM journal WHERE seq = ?1 ORDER BY step LIMIT ?2)"""


class Journals(Statements):
    """The journals of invocations and the state of keyed services."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._entries: dict[int, dict[int, bytes]] = {}
        """Entries that are not in the file, by seq and step."""

    def journal_put(self, seq: int, entry: Entry) -> None:
        self._entries.setdefault(seq, {})[entry.step] = _encode(entry)

    def journal_entry(self, seq: int, step: int) -> Entry | None:
        waiting = self._entries.get(seq)
        value = None if waiting is None else waiting.get(step)
        if value is None:
            value = self._value("SELECT value FROM journal WHERE seq = ? AND step = ?", (seq, step))
        return None if value is None else to_entry(value)

    def journal(self, seq: int, after: int, limit: int) -> list[Entry]:
        if seq in self._entries:
            self.write_journals()
        sql = "SELECT value FROM journal WHERE seq = ? AND step > ? ORDER BY step LIMIT ?"
        return [to_entry(value) for (value,) in self._all(sql, (seq, after, limit))]

    def journal_kept(self, first: int, last: int) -> bool:
        if any(first <= seq <= last for seq in self._entries):
            return True
        return self._value("SELECT 1 FROM journal WHERE seq BETWEEN ? AND ? LIMIT 1", (first, last)) is not None

    def journal_drop(self, first: int, last: int, limit: int) -> tuple[int, int | None]:
        """Which rows were removed is read from the file; the caller has brought it up to date."""
        self.write_journals()
        used = 0
        for seq, is_there in self._all(_KEPT, (first, last, limit)):
            used += 1 if is_there else self._change(_DROP, (seq, limit - used))
            if used == limit:
                return used, seq + is_there
        return used, None

    # -- state of keyed services

    def value(self, service: str, key: str, name: str) -> bytes | None:
        sql = "SELECT value FROM value WHERE service = ? AND key = ? AND name = ?"
        value: bytes | None = self._value(sql, (service, key, name))
        return value

    def value_put(self, service: str, key: str, name: str, value: bytes) -> bool:
        if self._change("INSERT OR IGNORE INTO value VALUES (?, ?, ?, ?)", (service, key, name, value)):
            return True
        sql = "UPDATE value SET value = ?4 WHERE service = ?1 AND key = ?2 AND name = ?3"
        self._change(sql, (service, key, name, value))
        return False

    def value_remove(self, service: str, key: str, name: str) -> bool:
        sql = "DELETE FROM value WHERE service = ? AND key = ? AND name = ?"
        return self._change(sql, (service, key, name)) == 1

    def values(self, service: str, key: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        sql = "SELECT name, value FROM value WHERE service = ? AND key = ? AND name > ? ORDER BY name LIMIT ?"
        return self._all(sql, (service, key, after, limit))

    # -- between memory and the file

    def write_journals(self) -> None:
        """Bring the file up to date."""
        if self._entries:
            rows = [(seq, step, value) for seq, steps in self._entries.items() for step, value in steps.items()]
            self._write("INSERT OR REPLACE INTO journal VALUES (?, ?, ?)", rows, self._entries.clear)

    def reload_journals(self) -> None:
        """Drop what is not in the file."""
        self._entries.clear()
