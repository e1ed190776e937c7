"""The baselines: the same row changes on the same schema by the plainest loops, without log and machine.

They use the store's file as the store does (page size, cache, WAL, checkpoints on a thread), so that what is
compared is the machine and not the settings.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from coordinator.model import limits, messages
from coordinator.model.effects import parameters, plain_effect, set_clause
from coordinator.model.filters import Filter
from coordinator.model.invocation import COLUMNS, HELD, MUTABLE
from coordinator.model.statuses import Action, Outcome, Status
from coordinator.stores import scans, schema
from coordinator.stores.checkpoints import Checkpointer
from coordinator.stores.lookups import SEQ_MASK, first_entry, id_name
from coordinator.stores.port import Candidates, Condition, Scan, Slice
from coordinator.stores.sqlite import CACHE_KIB, PAGE_BYTES, STATEMENTS_CACHED

# ruff: noqa: S608 - statements are put together from names of this project; values are always bound.

_ROW: Final = ", ".join(COLUMNS)
_INSERT: Final = f"INSERT INTO invocation VALUES ({', '.join('?' * len(COLUMNS))})"
_UPDATE: Final = f"UPDATE invocation SET {', '.join(f'{column} = ?' for column in MUTABLE)} WHERE seq = ?"
_BY_ID: Final = f"""
SELECT {_ROW} FROM id_entry CROSS JOIN invocation ON seq = entry & {SEQ_MASK}
WHERE entry BETWEEN ? AND ? AND id = ?"""
_FIRST_MUTABLE: Final = len(COLUMNS) - len(MUTABLE)
_STATUS, _OUTCOME, _MODIFIED_AT = (COLUMNS.index(name) for name in ("status", "outcome", "modified_at"))
_COMPLETED_AT, _TIMER_AT, _DEPLOYMENT = (COLUMNS.index(name) for name in ("completed_at", "timer_at", "deployment"))
_ATTEMPT, _RETRY, _LAST_FAILURE, _TIES = (COLUMNS.index(name) for name in ("attempt", "retry", "last_failure", "ties"))
_RETENTION, _CAUGHT_UP_TO = COLUMNS.index("retention"), COLUMNS.index("caught_up_to")


class Took(NamedTuple):
    """What a loop has done and in what time."""

    count: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Rows or records a second."""
        return self.count / self.seconds


@contextmanager
def _opened(path: Path) -> Iterator[tuple[apsw.Connection, Checkpointer]]:
    connection = apsw.Connection(str(path), statementcachesize=STATEMENTS_CACHED)
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
    checkpoints = Checkpointer(path, connection)
    try:
        yield connection, checkpoints
    finally:
        checkpoints.stop()
        connection.close()


def kill_scheduled(path: Path, filter: Filter, slice_rows: int) -> Took:
    """End all scheduled rows that the filter selects: one statement and one commit for each slice of seqs."""
    effect = plain_effect(Action.KILL, Status.SCHEDULED)
    assert effect is not None, "a scheduled row is ended by a statement"
    scan = Scan(Candidates.SERVICE, service=filter.service)
    position = 1 << 40
    condition = Condition(filter, position, tied=False, statuses=frozenset((int(Status.SCHEDULED),)))
    with _opened(path) as (connection, checkpoints):
        last = connection.execute("SELECT max(seq) FROM invocation").get
        began, changed = time.perf_counter(), 0
        for after in range(0, last, slice_rows):
            part = Slice(scan, after, min(after + slice_rows, last))
            hint, test, values = scans.matching(part, condition, dense=True)
            connection.execute("BEGIN IMMEDIATE")
            statement = f"UPDATE invocation {hint} SET {set_clause(effect)} WHERE {test}"
            connection.execute(statement, values | parameters(1, position))
            changed += connection.changes()
            connection.execute("COMMIT")
            checkpoints.after_commit()
        return Took(changed, time.perf_counter() - began)


def apply_mixed(path: Path, records: Sequence[bytes]) -> Took:
    """Decode the mixed workload and do its row changes one statement at a time, a commit for every 500 records."""
    with _opened(path) as (connection, checkpoints):
        rows = _Rows(connection)
        began = time.perf_counter()
        for start in range(0, len(records), limits.RUN_RECORDS_MAX):
            connection.execute("BEGIN IMMEDIATE")
            for number, record in enumerate(records[start : start + limits.RUN_RECORDS_MAX], start):
                rows.apply(number, record)
            connection.execute("COMMIT")
            checkpoints.after_commit()
        return Took(len(records), time.perf_counter() - began)


class _Rows:
    """The row changes of the mixed workload: a row and payload, an update by id, an outbox entry."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._seq = self._execute("SELECT ifnull(max(seq), 0) FROM invocation").get
        self._number = self._execute("SELECT ifnull(max(number), 0) FROM outbox").get
        self._backing_off: list[str] = []

    def apply(self, position: int, record: bytes) -> None:
        command = messages.decode_command(record)
        match command:
            case messages.Invoke():
                self._create(position, command, record)
            case messages.Tick():
                for id in self._backing_off:
                    self._retry(position, id, record)
                self._backing_off.clear()
            case messages.Report():
                self._report(position, command)

    def _create(self, position: int, c: messages.Invoke, record: bytes) -> None:
        self._seq += 1
        row = (
            self._seq, c.id, c.service, c.handler, c.key, c.type, c.shared, position, c.parent, c.detached,
            c.idempotency_key, c.retention, int(Status.READY), None, position, None, None, None, None, 1, 0, None,
            0, 0, None, None, HELD, position,
        )  # fmt: skip
        self._execute(_INSERT, row)
        headers = msgspec.msgpack.encode(c.headers)
        self._execute("INSERT INTO payload VALUES (?, ?, ?, ?, NULL)", (self._seq, c.input, headers, None))
        self._execute("INSERT OR IGNORE INTO id_entry VALUES (?)", (first_entry(id_name(c.id)) | self._seq,))
        self._send(record)

    def _send(self, value: bytes) -> None:
        self._number += 1
        self._execute("INSERT INTO outbox VALUES (?, ?, ?)", (-1, self._number, value))

    def _row(self, id: str) -> list[Any]:
        first = first_entry(id_name(id))
        return list(self._execute(_BY_ID, (first, first | SEQ_MASK, id)).get)

    def _save(self, position: int, row: list[Any]) -> None:
        row[_MODIFIED_AT] = row[_CAUGHT_UP_TO] = position
        self._execute(_UPDATE, (*row[_FIRST_MUTABLE:], row[0]))

    def _retry(self, position: int, id: str, record: bytes) -> None:
        row = self._row(id)
        row[_STATUS], row[_TIES], row[_TIMER_AT] = int(Status.READY), HELD, None
        row[_ATTEMPT] += 1
        self._save(position, row)
        self._send(record)

    def _report(self, position: int, c: messages.Report) -> None:
        row = self._row(c.id)
        match c:
            case messages.Started():
                row[_STATUS], row[_DEPLOYMENT] = int(Status.RUNNING), c.deployment
            case messages.Suspended():
                row[_STATUS], row[_TIES] = int(Status.SUSPENDED), 0
            case messages.BackingOff():
                row[_STATUS], row[_TIES], row[_TIMER_AT] = int(Status.BACKING_OFF), 0, c.retry_at
                row[_RETRY], row[_LAST_FAILURE] = c.retry, c.failure
                self._backing_off.append(c.id)
            case messages.Completed():
                row[_STATUS], row[_TIES], row[_OUTCOME] = int(Status.COMPLETED), 0, int(Outcome.SUCCESS)
                row[_COMPLETED_AT], row[_TIMER_AT] = position, position + row[_RETENTION]
                self._execute("UPDATE payload SET output = ? WHERE seq = ?", (c.output, row[0]))
        self._save(position, row)


def statuses(path: Path) -> list[tuple[int, int | None, int, int]]:
    """How many rows of the store are in which status, outcome and attempt: what both must agree on."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = "SELECT status, outcome, attempt, count(*) FROM invocation GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
