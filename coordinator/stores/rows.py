"""The rows of a partition: a write-behind cache over the invocation and payload tables.

Within a transaction a row is one object. So what was fetched or inserted stays here, `save` only notes that it is
to be written, and `write` brings what was noted into the file, many rows in one statement: at the commit, and
before any statement that must see it. A row that was inserted and then changed is written once.

The cache is kept from one transaction to the next, because reports follow the invocations that they are about;
above a bound it is dropped as a whole. Statements that change rows behind it (sweeps) make it forget
the slice they went over.
"""

# ruff: noqa: S608 - statements are put together from names of this package; values are always bound.

from operator import attrgetter
from typing import Any, Final

import apsw
import msgspec

from coordinator.model.invocation import COLUMNS, MUTABLE, Invocation, Payload
from coordinator.stores import payloads
from coordinator.stores.lookups import (
    SEQ_MASK,
    Lookups,
    first_entry,
    id_name,
    idempotency_name,
    workflow_name,
)
from coordinator.stores.statements import Statements

CACHED_ROWS_MAX: Final = 20_000

ROW: Final = ", ".join(COLUMNS)
_PLACES: Final = ", ".join("?" * len(COLUMNS))
_SETS: Final = ", ".join(f"{column} = ?" for column in MUTABLE)
_INSERT: Final = f"INSERT INTO invocation VALUES ({_PLACES})"
_UPDATE: Final = f"UPDATE invocation SET {_SETS} WHERE seq = ?"
_BY_SEQ: Final = f"SELECT {ROW} FROM invocation WHERE seq = ?"
_BY_ENTRY: Final = f"""
SELECT {ROW} FROM {{table}} CROSS JOIN invocation ON seq = entry & {SEQ_MASK}
WHERE entry BETWEEN ? AND ? AND {{condition}} ORDER BY entry DESC LIMIT 1"""
_BY_ID: Final = _BY_ENTRY.format(table="id_entry", condition="id = ?")
_BY_IDEMPOTENCY_KEY: Final = _BY_ENTRY.format(
    table="once_entry", condition="service = ? AND handler = ? AND key IS ? AND idempotency_key = ?"
)
_BY_WORKFLOW_KEY: Final = _BY_ENTRY.format(
    table="once_entry", condition="service = ? AND key = ? AND type = 2 AND NOT shared"
)
_changes: Final = attrgetter(*MUTABLE, "seq")
_leads_to: Final = attrgetter(*Lookups.COLUMNS.split(", "))
_values: Final = msgspec.structs.astuple


def to_row(values: tuple[Any, ...]) -> Invocation:
    """A row from its columns; SQLite has no booleans."""
    row = Invocation(*values)
    row.shared = row.shared == 1
    row.detached = row.detached == 1
    return row


class Rows(Statements):
    """Invocations, their payloads and where to find them."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._lookups = Lookups(connection)
        self._by_id: dict[str, Invocation] = {}
        self._by_seq: dict[int, Invocation] = {}
        self._fresh: dict[int, Invocation] = {}
        self._changed: dict[int, Invocation] = {}
        self._removed: set[int] = set()
        self._payloads: dict[int, Payload] = {}

    def insert(self, row: Invocation, payload: Payload | None) -> None:
        self._by_id[row.id] = self._by_seq[row.seq] = self._fresh[row.seq] = row
        self._lookups.add(row)
        if payload is not None and payload != payloads.EMPTY:
            self.save_payload(row.seq, payload)

    def by_id(self, id: str) -> Invocation | None:
        row = self._by_id.get(id)
        if row is not None:
            return row
        name = id_name(id)
        seq = self._lookups.ids.newest_waiting(name)
        return self._by_entry(_BY_ID, name, id) if seq is None else self.by_seq(seq)

    def by_seq(self, seq: int) -> Invocation | None:
        row = self._by_seq.get(seq)
        if row is not None or seq in self._removed:
            return row
        return self._first(_BY_SEQ, (seq,))

    def by_idempotency_key(
        self, service: str, handler: str, key: str | None, idempotency_key: str
    ) -> Invocation | None:
        name = idempotency_name(service, handler, key, idempotency_key)
        seq = self._lookups.once.newest_waiting(name)
        if seq is not None:
            return self.by_seq(seq)
        return self._by_entry(_BY_IDEMPOTENCY_KEY, name, service, handler, key, idempotency_key)

    def by_workflow_key(self, service: str, key: str) -> Invocation | None:
        name = workflow_name(service, key)
        seq = self._lookups.once.newest_waiting(name)
        return self._by_entry(_BY_WORKFLOW_KEY, name, service, key) if seq is None else self.by_seq(seq)

    def _by_entry(self, sql: str, name: bytes, *parts: str | None) -> Invocation | None:
        self._write_removed()
        first = first_entry(name)
        return self._first(sql, (first, first | SEQ_MASK, *parts))

    def _first(self, sql: str, bindings: tuple[Any, ...]) -> Invocation | None:
        for values in self._connection.execute(sql, bindings):
            return self.hold(values)
        return None

    def hold(self, values: tuple[Any, ...]) -> Invocation:
        """The one object of a row that was read."""
        row = self._by_seq.get(values[0])
        if row is None:
            row = to_row(values)
            self._by_id[row.id] = self._by_seq[row.seq] = row
        return row

    def save(self, row: Invocation) -> None:
        seq = row.seq
        assert self._by_seq.get(seq) is row, f"row {seq} is stale; it must be looked up again"
        if seq not in self._fresh:
            self._changed[seq] = row

    def remove(self, row: Invocation) -> None:
        seq = row.seq
        assert self._by_seq.get(seq) is row, f"row {seq} is stale; it must be looked up again"
        del self._by_seq[seq], self._by_id[row.id]
        self._changed.pop(seq, None)
        self._payloads.pop(seq, None)
        self._lookups.drop([_leads_to(row)])
        if self._fresh.pop(seq, None) is None:
            self._removed.add(seq)

    def payload(self, seq: int) -> Payload:
        payload = self._payloads.get(seq)
        if payload is not None:
            return payloads.copied(payload)
        if seq not in self._removed:
            sql = f"SELECT {payloads.COLUMNS} FROM payload WHERE seq = ?"
            for values in self._connection.execute(sql, (seq,)):
                return payloads.from_columns(*values)
        return Payload()

    def save_payload(self, seq: int, payload: Payload) -> None:
        self._payloads[seq] = payloads.copied(payload)

    # -- between the cache and the file

    def write_rows(self) -> None:
        """Bring all rows up to date in the file."""
        self._write_removed()
        if self._fresh:
            self._connection.executemany(_INSERT, map(_values, self._fresh.values()))
            self._fresh.clear()
        if self._changed:
            self._connection.executemany(_UPDATE, map(_changes, self._changed.values()))
            self._changed.clear()
        if self._payloads:
            self._write_payloads()

    def _write_removed(self) -> None:
        if self._removed:
            seqs = [(seq,) for seq in sorted(self._removed)]
            self._connection.executemany("DELETE FROM invocation WHERE seq = ?", seqs)
            self._connection.executemany("DELETE FROM payload WHERE seq = ?", seqs)
            self._removed.clear()

    def _write_payloads(self) -> None:
        kept, empty = [], []
        for seq, payload in self._payloads.items():
            if payload == payloads.EMPTY:
                empty.append((seq,))
            else:
                kept.append((seq, *payloads.to_columns(payload)))
        self._connection.executemany("INSERT OR REPLACE INTO payload VALUES (?, ?, ?, ?, ?)", kept)
        if empty:
            self._connection.executemany("DELETE FROM payload WHERE seq = ?", empty)
        self._payloads.clear()

    def forget(self, after: int, upto: int) -> None:
        """The rows after < seq <= upto may have changed in the file."""
        if upto - after < len(self._by_seq):
            seqs = [seq for seq in range(after + 1, upto + 1) if seq in self._by_seq]
        else:
            seqs = [seq for seq in self._by_seq if after < seq <= upto]
        for seq in seqs:
            del self._by_id[self._by_seq.pop(seq).id]

    def finish_rows(self) -> None:
        """All that a commit needs."""
        self.write_rows()
        self._lookups.merge()
        if len(self._by_seq) > CACHED_ROWS_MAX:
            self._by_seq.clear()
            self._by_id.clear()

    def reload_rows(self) -> None:
        """Drop what is not in the file and start again from it."""
        for cache in (self._by_id, self._by_seq, self._fresh, self._changed, self._removed, self._payloads):
            cache.clear()
        settled = self._connection.execute("SELECT value FROM scalar WHERE name = 'settled'").get or 0
        rows = self._connection.execute(f"SELECT {ROW} FROM invocation WHERE seq > ? ORDER BY seq", (settled,))
        self._lookups.reload(settled, map(to_row, rows))
