"""The store in one SQLite file.

`rows`, `journals` and `tables` hold changes back in memory and write them many at a time; `lookups` finds rows by
what is random; `scans` has the SQL of batches; `schema` says what lies where. Here they become one `Store`: its
transactions, its scans, its canonical dump.

The file belongs to one process, which holds a lock file for as long as it lives. Others read it (`reader`).

"""

# ruff: noqa: S608 - statements are put together from names of this package; values are always bound.

from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from coordinator.model.effects import COUNTED, Effect, parameters, set_clause
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.model.invocation import Invocation
from coordinator.stores import payloads, scans, schema
from coordinator.stores.checkpoints import Checkpointer
from coordinator.stores.journals import Journals, to_entry
from coordinator.stores.lock import StoreLock
from coordinator.stores.lookups import Lookups, key_name
from coordinator.stores.port import Candidates, Condition, Scan, Slice
from coordinator.stores.rows import ROW, Rows, to_row
from coordinator.stores.tables import Tables

PAGE_BYTES: Final = 4096
CACHE_KIB: Final = 64 * 1024
STATEMENTS_CACHED: Final = 256
BUSY_MS: Final = 5_000

DUMPED: Final = (
    ("state", "SELECT value FROM scalar WHERE name = 'state'"),
    ("invocation", f"SELECT {ROW} FROM invocation ORDER BY seq"),
    ("payload", f"SELECT seq, {payloads.COLUMNS} FROM payload ORDER BY seq"),
    ("member", "SELECT position, seq FROM member ORDER BY 1, 2"),
    ("holder", "SELECT service, key, seq FROM holder ORDER BY 1, 2"),
    ("queue", "SELECT service, key, at, tiebreak, seq FROM waiting ORDER BY 1, 2, 3, 4, 5"),
    ("edge", "SELECT parent, child, step FROM edge ORDER BY 1, 2"),
    ("awaiter", "SELECT seq, parent, child FROM awaiter ORDER BY 1, 2, 3"),
    ("journal", "SELECT seq, value FROM journal ORDER BY seq, step"),
    ("value", "SELECT service, key, name, value FROM value ORDER BY 1, 2, 3"),
    ("held", "SELECT seq, position, lane FROM held ORDER BY 1"),
    ("ready", "SELECT lane, ordinal, seq FROM ready ORDER BY 1, 2"),
    ("timer", "SELECT due_at, first, last FROM timer ORDER BY 1, 2, 3"),
    ("work", "SELECT value FROM work ORDER BY number"),
    ("batch", "SELECT position, request, value FROM batch ORDER BY 1"),
)


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, and those of what was stored and does not decode."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, msgspec.DecodeError) as error:
        raise CorruptionError(f"the store {path} is damaged ({error}); {schema.MAKE_AGAIN}") from error
    except (apsw.FullError, apsw.IOError, apsw.BusyError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise TransientError(f"the store {path} cannot be used for now: {error}") from error


class SqliteStore(Rows, Journals, Tables):
    """One partition's state in a file. Raises StoreInUseError when another process owns it, CorruptionError when
    the file is damaged or not of this schema.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = StoreLock(self._path)
        self._open = False
        self._density: tuple[Scan, int, int] | None = None
        """Of the scan last sliced: the length of the slice and how many candidates it had."""
        try:
            with errors_of(self._path):
                connection = _connect(self._path)
                super().__init__(connection)
                self.reload_rows()
                self._checkpoints = Checkpointer(self._path, connection)
        except BaseException:
            self._lock.release()
            raise

    # -- transactions

    def begin(self) -> None:
        assert not self._open, "a transaction is open already"
        with errors_of(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
        self._open = True

    def commit(self) -> None:
        assert self._open, "no transaction is open"
        with errors_of(self._path):
            self.finish_rows()
            self.write_journals()
            self.write_tables()
            self._connection.execute("COMMIT")
            self._open = False
            self._checkpoints.after_commit()

    def rollback(self) -> None:
        assert self._open, "no transaction is open"
        self._open = False
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.reload_rows()
        self.reload_journals()
        self.reload_tables()

    def errors(self) -> AbstractContextManager[None]:
        return errors_of(self._path)

    def close(self) -> None:
        self._checkpoints.stop()
        self._connection.close()  # takes back what is not committed
        self._lock.release()

    # -- scans

    def slice_end(self, scan: Scan, after: int, below: int, limit: int) -> tuple[int | None, int]:
        self._write_for(scan)
        sql, values = scans.count_candidates(scan, after, below, limit)
        end: int | None
        count: int
        [(end, count)] = self._connection.execute(sql, values)
        if end is not None:
            self._density = scan, end - after, count
        return end, count

    def select(self, part: Slice, condition: Condition, limit: int) -> list[Invocation]:
        hint, test, values = self._matching(part, condition)
        sql = f"SELECT {ROW} FROM invocation {hint} WHERE {test} ORDER BY seq LIMIT :limit"
        rows = self._connection.execute(sql, values | {"limit": limit})
        return [self.hold(values) for values in rows]

    def sweep(self, part: Slice, condition: Condition, effect: Effect, at: int, position: int) -> int:
        hint, test, values = self._matching(part, condition)
        self.forget(part.after, part.upto)
        if effect.removes:
            return self._remove(f"{hint} WHERE {test}", values)
        sql = f"UPDATE invocation {hint} SET {set_clause(effect)} WHERE {test}"
        self._connection.execute(sql, values | parameters(at, position))
        return self._connection.changes()

    def _remove(self, which: str, values: dict[str, Any]) -> int:
        """Delete rows, their payloads, and what leads to them."""
        sql = f"DELETE FROM invocation {which} RETURNING {Lookups.COLUMNS}"
        gone = self._connection.execute(sql, values).fetchall()
        if gone:
            seqs = apsw.carray(array("q", [row[0] for row in gone]))
            self._connection.execute("DELETE FROM payload WHERE seq IN (SELECT value FROM carray(?))", (seqs,))
            self._lookups.drop(gone)
        return len(gone)

    def mark_members(self, part: Slice, condition: Condition, position: int) -> int:
        hint, test, values = self._matching(part, condition)
        sql = f"INSERT OR IGNORE INTO member SELECT :position, seq FROM invocation {hint} WHERE {test}"
        self._connection.execute(sql, values | {"position": position})
        return self.sweep(part, condition, COUNTED, 0, position)

    def _matching(self, part: Slice, condition: Condition) -> tuple[str, str, dict[str, Any]]:
        self._write_for(part.scan)
        dense = False
        if self._density is not None and self._density[0] == part.scan:
            _, length, count = self._density
            dense = length <= count * scans.SPARSE
        return scans.matching(part, condition, dense)

    def _write_for(self, scan: Scan) -> None:
        self.write_rows()
        if scan.candidates is Candidates.KEY and scan.service is not None and scan.key is not None:
            self._lookups.keys.settle(key_name(scan.service, scan.key))

    # -- journals

    def journal_drop(self, first: int, last: int, limit: int) -> tuple[int, int | None]:
        self.write_rows()  # which of them are there is read from the file
        return super().journal_drop(first, last, limit)

    # -- comparison

    def dump(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if self._open:
            self.write_rows()
            self.write_journals()
            self.write_tables()
        for table, sql in DUMPED:
            for values in self._connection.execute(sql):
                yield table, dumped(table, values)


def dumped(table: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    match table:
        case "invocation":
            return msgspec.structs.astuple(to_row(values))
        case "payload":
            return values[0], *payloads.facts(payloads.from_columns(*values[1:]))
        case "journal":
            return values[0], *msgspec.structs.astuple(to_entry(values[1]))
        case "work":
            return tuple(msgspec.msgpack.decode(values[0]))
        case _:
            return values


def _connect(path: Path) -> apsw.Connection:
    """Open the file, make its tables when it is new, and make sure that it is whole and of this schema."""
    connection = apsw.Connection(str(path), statementcachesize=STATEMENTS_CACHED)
    try:
        connection.set_busy_timeout(BUSY_MS)
        # Plans that do not hang on bound values: SQLite would compile range queries anew for each (20 us).
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for pragma, value in (
            ("page_size", PAGE_BYTES),
            ("journal_mode", "wal"),
            ("synchronous", "normal"),
            ("cache_size", -CACHE_KIB),
            ("temp_store", "memory"),
        ):
            connection.execute(f"PRAGMA {pragma} = {value}").fetchall()
        schema.prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
