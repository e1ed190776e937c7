"""The coordinator's states on disk: one SQLite file, changed in one transaction for each run of records.

States, what they want published and how far the log was read change together or not at all, so that after a
crash the coordinator stands exactly between two runs. `synchronous=NORMAL` may lose the last transactions
with the power, which is no loss: they are made again from the log, and what they had published repeats.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from coordinator.logs.port import Entry, Stream
from coordinator.model.errors import CorruptionError
from coordinator.requests import deployments
from coordinator.requests.deployments import Deployment
from coordinator.requests.state import Request, decode, encode
from coordinator.stores.lock import StoreLock
from coordinator.stores.sqlite import errors_of

# meta         one row: which log this was read from, and how many partitions its requests have
# positions    `requests` and `progress`: the next position to read
# requests     id → requests.state.Request as msgpack
# deployments  in order of registration, requests.deployments.Deployment as msgpack
# outbox       what is to be appended, in order; a row goes once the log has acknowledged it
SCHEMA: Final = """
CREATE TABLE meta (log TEXT NOT NULL, partitions INTEGER NOT NULL) STRICT;
CREATE TABLE positions (stream TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT;
CREATE TABLE requests (id TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT;
CREATE TABLE deployments (number INTEGER PRIMARY KEY, deployment BLOB NOT NULL) STRICT;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, stream TEXT NOT NULL, partition INTEGER NOT NULL, value BLOB NOT NULL
) STRICT;
PRAGMA user_version = 2;
"""
VERSION: Final = 2
BUSY_MS: Final = 5_000
"""How long to wait for a reader that holds up a checkpoint."""


class Outgoing(NamedTuple):
    """An entry to be appended, under its number in the outbox."""

    number: int
    entry: Entry


class Moved(NamedTuple):
    """A stream was read from position `start` up to, and without, `next`."""

    stream: Stream
    start: int
    next: int


class RequestsFile:
    """The file at `path`, owned until `close`. All calls from one thread at a time."""

    def __init__(self, path: Path, log: str, partitions: int) -> None:
        """Open the file, or make it for the log of this identity.

        Raises StoreInUseError when another coordinator has it, CorruptionError when it is damaged, was made for
        another log, another number of partitions, or by a build with another schema.
        """
        self._path = path
        self._lock = StoreLock(path)
        try:
            with errors_of(path):
                self._db = apsw.Connection(str(path))
        except BaseException:
            self._lock.release()
            raise
        self._open = True
        try:
            with errors_of(path):
                self._prepare(log, partitions)
                self._last = self._value("SELECT coalesce(max(number), 0) FROM outbox")
        except BaseException:
            self.close()
            raise

    def position(self, stream: Stream) -> int:
        """The next position to read."""
        with errors_of(self._path):
            return self._value("SELECT coalesce(max(next), 0) FROM positions WHERE stream = ?", stream.value)

    def requests(self) -> Iterator[Request]:
        with errors_of(self._path):
            for (state,) in self._db.execute("SELECT state FROM requests"):
                yield decode(state)

    def deployments(self) -> Iterator[Deployment]:
        with errors_of(self._path):
            for (deployment,) in self._db.execute("SELECT deployment FROM deployments"):
                yield deployments.decode(deployment)

    def outbox(self) -> list[Outgoing]:
        """What was not acknowledged yet, in order."""
        with errors_of(self._path):
            rows = self._db.execute("SELECT number, stream, partition, value FROM outbox ORDER BY number")
            return [Outgoing(number, Entry(Stream(stream), at, value)) for number, stream, at, value in rows]

    def commit(
        self,
        *,
        moved: Moved | None = None,
        changed: Mapping[str, Request] = {},
        registered: Iterable[Deployment] = (),
        forgotten: Iterable[str] = (),
        entries: Sequence[Entry] = (),
        published: int = 0,
    ) -> list[Outgoing]:
        """One transaction: states, the position behind them, what is to be published, and up to where it was.

        Returns the entries under their numbers. Changes nothing and raises CorruptionError when somebody
        else has moved the position, TransientError when the file cannot be written for now.
        """
        outgoing = [Outgoing(number, entry) for number, entry in enumerate(entries, self._last + 1)]
        with errors_of(self._path), self._db:
            if moved is not None:
                self._move(moved)
            self._put(changed, outgoing)
            self._db.executemany(
                "INSERT INTO deployments VALUES (?, ?)", ((one.number, deployments.encode(one)) for one in registered)
            )
            self._db.executemany("DELETE FROM requests WHERE id = ?", ((id,) for id in forgotten))
            self._db.execute("DELETE FROM outbox WHERE number <= ?", (published,))
        self._last += len(outgoing)
        return outgoing

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        if self._open:
            self._open = False
            self._db.close()
            self._lock.release()

    def _prepare(self, log: str, partitions: int) -> None:
        """Make the tables of a new file; make sure that an old one belongs here."""
        self._db.set_busy_timeout(BUSY_MS)
        self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "normal")
        if self._db.pragma("user_version") == 0:
            with self._db:
                self._db.execute(SCHEMA)
                self._db.execute("INSERT INTO meta VALUES (?, ?)", (log, partitions))
        self._check(log, partitions)

    def _put(self, changed: Mapping[str, Request], outgoing: Sequence[Outgoing]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO requests VALUES (?, ?)", ((id, encode(one)) for id, one in changed.items())
        )
        self._db.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            ((number, one.stream.value, one.partition, one.value) for number, one in outgoing),
        )

    def _move(self, moved: Moved) -> None:
        stream, start, next = moved
        if start == 0:
            self._db.execute("INSERT OR IGNORE INTO positions VALUES (?, 0)", (stream.value,))
        self._db.execute("UPDATE positions SET next = ? WHERE (stream, next) = (?, ?)", (next, stream.value, start))
        if self._db.changes() != 1:
            raise CorruptionError(
                f"{self._path} does not stand at position {start} of {stream}, where its only owner left it; stop "
                "whatever else writes to it"
            )

    def _check(self, log: str, partitions: int) -> None:
        version = self._db.pragma("user_version")
        if version != VERSION:
            raise CorruptionError(f"{self._path} has schema {version} and this build knows {VERSION}; use its build")
        mine, counted = next(self._db.execute("SELECT log, partitions FROM meta"))
        if mine != log:
            raise CorruptionError(
                f"{self._path} was made from log {mine} and this is log {log}; use the log that belongs to it, or "
                "move the file away to have it made again from the log at hand"
            )
        if counted != partitions:
            raise CorruptionError(f"{self._path} was made for {counted} partitions and the log has {partitions}")

    def _value(self, query: str, *bindings: str) -> int:
        (value,) = next(self._db.execute(query, bindings))
        return int(value)
