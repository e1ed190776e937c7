"""What is in the SQLite file of an embedded log.

    meta        name      value
                identity  a random id, for good
                format    the version of this layout

    partitions  name          "<stream>/<partition>", one row per partition, all made at creation
                first         every position below is trimmed; the rows may still be there for a while
                appended_at   of the last record when the partition was last trimmed

    "<stream>/<partition>"   one table per partition: position, appended_at, value

Positions are dense, so the next one is one more than the last row's. Only where a trim took all the rows does
it follow from `partitions.first`, and the lower bound of the next append time from `partitions.appended_at`.

A trim moves `first` and deletes the rows afterwards, in slices: the statements here that read therefore
compare with `first` in the snapshot they read from.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from coordinator.logs.port import LogError, Stream

FORMAT = "1"

# Larger pages make long runs faster and a single append's write larger; the embedded log writes the last
# page of each partition that a group touches.
PAGE_BYTES = 8192


_INSERT = "INSERT INTO {table} SELECT ? + rowid - 1, ?, value FROM carray(?)"
_READ = """
    SELECT position, appended_at, value FROM {table}
    WHERE position >= ?1 AND ?1 >= (SELECT first FROM partitions WHERE name = {name})
    ORDER BY position LIMIT ?2"""
_BOUNDS = """
    SELECT first, max(first, ifnull((SELECT max(position) + 1 FROM {table}), 0))
    FROM partitions WHERE name = {name}"""
_APPENDED_AT = """
    SELECT max(appended_at, ifnull((SELECT appended_at FROM {table} ORDER BY position DESC LIMIT 1), 0))
    FROM partitions WHERE name = {name}"""
_TRIM = "UPDATE partitions SET first = ?, appended_at = ? WHERE name = {name}"
_SLICE = """
    SELECT max(position) FROM (
        SELECT position, sum(size) OVER (ORDER BY position) - size AS before FROM (
            SELECT position, length(value) AS size FROM {table} WHERE position < ? ORDER BY position LIMIT ?))
    WHERE before < ?"""
_DELETE = "DELETE FROM {table} WHERE position <= ?"


@dataclass(frozen=True)
class Statements:
    """The SQL over one partition, put together once so that the statement caches recognize it."""

    insert: str
    """First position, append time, carray of the values."""
    read: str
    """From this position on, at most so many rows."""
    bounds: str
    """Gives `first` and `end`."""
    appended_at: str
    """Gives the append time of the last record there ever was."""
    trim: str
    """The new `first`, the last append time."""
    slice: str
    """Below this position, at most so many rows, none after so many bytes: gives the last row to delete."""
    delete: str
    """Up to and with this position."""

    @classmethod
    def of(cls, stream: Stream, partition: int) -> Statements:
        names = {"table": f'"{stream}/{partition}"', "name": f"'{stream}/{partition}'"}
        templates = (_INSERT, _READ, _BOUNDS, _APPENDED_AT, _TRIM, _SLICE, _DELETE)
        return cls(*(template.format(**names) for template in templates))


def create(connection: apsw.Connection, counts: Mapping[Stream, int]) -> None:
    """Make the tables of a new log, in one transaction: a file without them is a log not yet created."""
    with connection:
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        meta = {"identity": uuid.uuid4().hex, "format": FORMAT}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute(
            "CREATE TABLE partitions "
            "(name TEXT PRIMARY KEY, first INTEGER NOT NULL, appended_at INTEGER NOT NULL) WITHOUT ROWID"
        )
        for stream, count in counts.items():
            for partition in range(count):
                name = f"{stream}/{partition}"
                connection.execute("INSERT INTO partitions VALUES (?, 0, 0)", (name,))
                connection.execute(
                    f'CREATE TABLE "{name}" '
                    "(position INTEGER PRIMARY KEY, appended_at INTEGER NOT NULL, value BLOB NOT NULL)"
                )


def is_empty(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema").get is None


def identity(connection: apsw.Connection) -> str:
    """The log's identity, once it is clear that this build knows the file's layout."""
    meta = {str(name): str(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    if meta.get("format") != FORMAT:
        raise LogError(f"the log has format {meta.get('format')}, this build knows {FORMAT}; use the other build")
    return meta["identity"]


def partition_counts(connection: apsw.Connection) -> dict[Stream, int]:
    counts = dict.fromkeys(Stream, 0)
    for (name,) in connection.execute("SELECT name FROM partitions"):
        counts[Stream(str(name).partition("/")[0])] += 1
    return counts
