"""Reading a partition's file beside the process that owns it: what operators' queries and `check` need.

Connections are read-only, one for each thread, which has it to itself while it is in a query. A query sees what the
owner has committed, each statement its own moment, or all statements of a `snapshot` the same one. A long-lived reader
keeps the WAL from starting over, so listings read in chunks, each a statement of its own that goes on behind the last
row.

A listing takes one of two ways. Where an index leads to few candidates, they are read and sorted, for every chunk
again. Otherwise it walks the index on `created_at` from the newest and tests each row: all chunks together
pass over the rows once, however many match.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import apsw

from coordinator.model.errors import TransientError
from coordinator.model.filters import Filter, predicate, target_parts, where
from coordinator.model.invocation import Invocation, Payload
from coordinator.model.journal import Entry
from coordinator.stores import payloads, schema
from coordinator.stores.journals import to_entry
from coordinator.stores.lookups import SEQ_MASK, first_entry, id_name, key_name
from coordinator.stores.rows import ROW, to_row
from coordinator.stores.sqlite import BUSY_MS, DUMPED, dumped, errors_of

# ruff: noqa: S608 - statements are put together from names of this package; values are always bound.

CHUNK: Final = 500
FEW: Final = 2_000

_BY_ENTRY: Final = f"""
    SELECT {ROW} FROM invocation
    WHERE seq IN (SELECT entry & {SEQ_MASK} FROM id_entry WHERE entry BETWEEN ? AND ?) AND id = ?"""
# The newest rows may not have been entered yet; there are few of them.
_NOT_ENTERED: Final = "seq > ifnull((SELECT value FROM scalar WHERE name = 'settled'), 0)"
_BY_KEY: Final = f"""seq IN (
    SELECT entry & {SEQ_MASK} FROM key_entry WHERE entry BETWEEN :first AND :last
    UNION ALL SELECT seq FROM invocation NOT INDEXED WHERE {_NOT_ENTERED} AND key = :of_key)"""
_BEHIND: Final = "created_at <= :after_at AND (created_at < :after_at OR id > :after_id)"


@dataclass(eq=False)
class _Seat:
    """What a thread reads by."""

    connection: apsw.Connection | None = None
    file: int | None = None
    """Which file that has open."""
    queries: int = 0
    """Under way: blocks of `snapshot`, and those whose rows are not all taken."""


class StoreReader:
    """One partition's file, read-only. Thread-safe. Before the owner has made the file it is empty.

    All queries raise TransientError once it is closed.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._idle: set[_Seat] = set()
        """Of threads that are in no query."""
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What this thread reads inside the block is of one moment."""
        with self._query_of_thread() as connection:
            if connection is None or connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")  # nothing was written, and on a damaged file a COMMIT fails

    def state(self) -> bytes | None:
        """The machine's scalars as last committed."""
        for (value,) in self._query("SELECT value FROM scalar WHERE name = 'state'"):
            return bytes(value)
        return None

    def batches(self) -> list[tuple[int, str, bytes]]:
        """All batches that the partition knows, by position."""
        return list(self._query("SELECT position, request, value FROM batch ORDER BY position"))

    def is_member(self, position: int, seq: int) -> bool:
        """Whether the guarded batch at this position has marked the row."""
        found = self._query("SELECT 1 FROM member WHERE position = ? AND seq = ?", (position, seq))
        return any(True for _ in found)

    def invocation(self, id: str) -> Invocation | None:
        """The row of this id as stored."""
        return next(iter(self._by_ids((id,))), None)

    def _by_ids(self, ids: tuple[str, ...]) -> list[Invocation]:
        """Those that are there, of one moment."""
        found = {}
        with self.snapshot():
            for id in ids:
                first = first_entry(id_name(id))
                for values in self._query(_BY_ENTRY, (first, first | SEQ_MASK, id)):
                    found[id] = to_row(values)
            others = [id for id in ids if id not in found]
            if others:
                places = ", ".join("?" * len(others))
                sql = f"SELECT {ROW} FROM invocation NOT INDEXED WHERE {_NOT_ENTERED} AND id IN ({places})"
                for values in self._query(sql, others):
                    row = to_row(values)
                    found[row.id] = row
        return list(found.values())

    def service_type(self, service: str) -> int | None:
        """The type that an invocation of the service has; None when there is none."""
        sql = "SELECT type FROM invocation INDEXED BY invocation_service WHERE service = ? LIMIT 1"
        for (type,) in self._query(sql, (service,)):
            return int(type)
        return None

    def payload(self, seq: int) -> Payload:
        """What was sent to the invocation, what came back, and what it was made from."""
        for values in self._query(f"SELECT {payloads.COLUMNS} FROM payload WHERE seq = ?", (seq,)):
            return payloads.from_columns(*values)
        return Payload()

    def journal(self, seq: int, *, after: int, limit: int) -> list[Entry]:
        """A page of the invocation's journal: up to `limit` entries with step > after, by step."""
        sql = "SELECT value FROM journal WHERE seq = ? AND step > ? ORDER BY step LIMIT ?"
        return [to_entry(value) for (value,) in self._query(sql, (seq, after, limit))]

    def rows(self, filter: Filter, *, after: tuple[int, str] | None, limit: int | None) -> Iterator[Invocation]:
        """Stored rows that match, newest `created_at` first, then by id, behind `after` (created_at, id)."""
        chunks = self._chunks(filter, after, limit) if filter.ids is None else self._named(filter, after)
        return islice(chain.from_iterable(chunks), limit)

    def _named(self, filter: Filter, after: tuple[int, str] | None) -> Iterator[list[Invocation]]:
        matches, behind = predicate(filter), _place(*after) if after is not None else None
        found = [row for row in self._by_ids(filter.ids or ()) if matches(row)]
        found.sort(key=lambda row: _place(row.created_at, row.id))
        yield [row for row in found if behind is None or _place(row.created_at, row.id) > behind]

    def _chunks(self, filter: Filter, after: tuple[int, str] | None, limit: int | None) -> Iterator[list[Invocation]]:
        condition, values = where(filter)
        hint, candidates, bound = self._way(filter)
        values |= bound | {"limit": CHUNK if limit is None else min(limit, CHUNK)}
        tests = f"{candidates} AND {condition}"
        while True:
            if after is not None:
                values["after_at"], values["after_id"] = after
            test = tests if after is None else f"{tests} AND {_BEHIND}"
            sql = f"SELECT {ROW} FROM invocation {hint} WHERE {test} ORDER BY created_at DESC, id LIMIT :limit"
            found = [to_row(row) for row in self._query(sql, values)]
            yield found
            if len(found) < values["limit"]:
                return
            after = found[-1].created_at, found[-1].id

    def _way(self, filter: Filter) -> tuple[str, str, dict[str, Any]]:
        """How to reach the rows that a filter can match: a hint, a condition and its values."""
        service, key = filter.service, filter.key
        if filter.target is not None:
            named, second, handler = target_parts(filter.target)
            service = service or named
            if handler is not None and service == named:
                key = second
        if service is not None and key is not None:
            first = first_entry(key_name(service, key))
            values = {"first": first, "last": first | SEQ_MASK, "of_key": key}
            if self._are_few("key_entry WHERE entry BETWEEN :first AND :last", values):
                return "NOT INDEXED", _BY_KEY, values
        if service is not None:
            values = {"of_service": service}
            if self._are_few("invocation INDEXED BY invocation_service WHERE service = :of_service", values):
                return "INDEXED BY invocation_service", "service = :of_service", values
        return "INDEXED BY invocation_created", "true", {}

    def _are_few(self, source: str, values: dict[str, Any]) -> bool:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {FEW})"
        return any(count < FEW for (count,) in self._query(sql, values))

    def dump(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The canonical dump, as `Store.dump`; inside `snapshot` for one moment."""
        for table, sql in DUMPED:
            for row in self._query(sql):
                yield table, dumped(table, row)

    def outbox(self) -> Iterator[tuple[int, int, bytes]]:
        """The entries that are still kept, as (destination, number, value)."""
        yield from self._query("SELECT destination, number, value FROM outbox ORDER BY 1, 2")

    def close(self) -> None:
        """Begin no more queries, and close the connections: those of queries under way as soon as these have ended."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._vacate(self._idle.pop())

    def _query(self, sql: str, values: Any = ()) -> Iterator[tuple[Any, ...]]:
        with self._query_of_thread() as connection:
            if connection is not None:
                with errors_of(self._path):
                    yield from connection.execute(sql, values)

    @contextmanager
    def _query_of_thread(self) -> Iterator[apsw.Connection | None]:
        """This thread's connection, which nobody closes inside the block; None while there is no file."""
        if not hasattr(self._local, "seat"):
            self._local.seat = _Seat()
        seat: _Seat = self._local.seat
        if seat.queries == 0:
            with self._lock:
                if self._closed:
                    raise TransientError(f"the store {self._path} is not read here any more; try again in a moment")
                self._idle.discard(seat)
        seat.queries += 1
        try:
            self._take_place(seat)
            yield seat.connection
        finally:
            seat.queries -= 1
            if seat.queries == 0:
                with self._lock:
                    if self._closed:
                        self._vacate(seat)
                    else:
                        self._idle.add(seat)

    def _take_place(self, seat: _Seat) -> None:
        """Connect it to the file that is there now."""
        file = self._file()
        if seat.connection is not None and file not in (None, seat.file) and not seat.connection.in_transaction:
            self._vacate(seat)  # another file is in its place now, restored from a snapshot
        if seat.connection is not None or file is None:
            return
        with errors_of(self._path):
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                connection.set_busy_timeout(BUSY_MS)
                if connection.execute("SELECT 1 FROM sqlite_schema").get is None:
                    # The owner is making the file at this moment: its tables come in one transaction.
                    connection.close()
                    return
                schema.check(connection, self._path)
            except BaseException:
                connection.close()
                raise
        seat.connection, seat.file = connection, file

    def _vacate(self, seat: _Seat) -> None:
        if seat.connection is not None:
            seat.connection.close()
            seat.connection = None

    def _file(self) -> int | None:
        """Which file it is, whatever it is called; None while there is none."""
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None


def _place(created_at: int, id: str) -> tuple[int, str]:
    """Where a row stands in a listing."""
    return -created_at, id
