"""Moving commits from the WAL into the database file without holding up a commit.

A checkpoint copies pages and syncs two files. Done by the writer it would lengthen some commit to tens of
milliseconds and halve the speed of a sweep (measured: 0.8 million rows/s against 1.4), so a thread with a connection
of its own does it. That alone would let the WAL grow for as long as there is work: SQLite starts the file
over only when at the begin of a transaction every page in it has been copied, and behind a busy writer the thread
is always a commit late. So when the WAL is long the writer copies what little the thread has left.

Both are passive checkpoints: they wait for nobody, and a reader holds up no more than the length of the WAL.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

PAGES_PER_CHECKPOINT: Final = 500
"""So many pages in the WAL that were not copied are worth a checkpoint, and few enough for the writer to copy."""
WAL_PAGES: Final = 1_500
"""When the WAL is as long as this the writer sees to it that it is started over."""
WAL_PAGES_MAX: Final = 8 * WAL_PAGES
"""As long as this, whatever it takes; only readers can make it longer."""


class Checkpointer:
    """Checkpoints of one file. The thread starts when there is something to do for it."""

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path = path
        self._writer = writer
        self._pages = 0
        self._copied = 0
        self._wanted = threading.Event()
        self._busy = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        writer.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _schema: str, pages: int) -> int:
        if pages < self._pages:
            self._copied = 0
        self._pages = pages
        return apsw.SQLITE_OK

    def after_commit(self) -> None:
        """What is due now that the writer is between two transactions."""
        left = self._pages - self._copied
        is_long = self._pages >= WAL_PAGES
        if self._busy or not (is_long or left >= PAGES_PER_CHECKPOINT):
            return
        if is_long and (left <= PAGES_PER_CHECKPOINT or self._pages >= WAL_PAGES_MAX):
            with suppress(apsw.BusyError):  # somebody else is at it
                self._checkpoint(self._writer)
        else:
            self._busy = True
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store checkpoints", daemon=True)
                self._thread.start()

    def _checkpoint(self, connection: apsw.Connection) -> None:
        _, self._copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _run(self) -> None:
        connection = apsw.Connection(str(self._path))
        connection.execute("PRAGMA synchronous = normal").fetchall()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped:
                break
            # What fails here is left to the writer, which tries the same when the WAL is long, and says why not.
            with suppress(apsw.Error):
                self._checkpoint(connection)
            self._busy = False
        connection.close()

    def stop(self) -> None:
        self._stopped = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
