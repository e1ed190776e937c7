"""Keeping the WAL short: the writer itself copies it into the database every few MiB.

SQLite's own automatic checkpoint never waits for a reader, and the WAL starts over only when nobody reads from it
at that moment; with busy readers it would grow for as long as they are busy. RESTART waits for the reads under
way, and those that begin meanwhile read from the database.

The appends behind a checkpoint wait for the copy and its sync, so a bound on the WAL bounds that wait. A
checkpoint on another thread was tried and gained nothing: its sync competes with the writer's for the disk.
"""

from __future__ import annotations

from contextlib import suppress

import apsw

# 4 MiB. Measured: 8 MiB doubles the longest append and makes appending faster by a tenth.
WAL_PAGES = 512
# How long a reader may hold up the writer. One that is stopped in the middle of a read costs that much for
# every `WAL_PAGES` and lets the WAL grow, but never stops the log.
READERS_MS = 20


class Checkpoints:
    """Checkpoints over the writer's connection, when enough has been written over it."""

    def __init__(self, connection: apsw.Connection, *, busy_ms: int) -> None:
        self._connection = connection
        self._busy_ms = busy_ms  # the connection's own patience, restored after a checkpoint

    def after_commit(self) -> None:
        """Called between transactions. Raises apsw.Error when the database cannot be written."""
        if self._pages_written(reset=False) < WAL_PAGES:
            return
        self._connection.set_busy_timeout(READERS_MS)
        with suppress(apsw.BusyError):  # what could be copied was copied; the next one goes on from there
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        self._connection.set_busy_timeout(self._busy_ms)
        self._pages_written(reset=True)

    def _pages_written(self, *, reset: bool) -> int:
        # In WAL mode the page cache writes to the WAL and nowhere else.
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, reset)[0]
