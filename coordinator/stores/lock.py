"""One process per store: a lock file that is held for as long as the process lives.

SQLite's own locks are held for one transaction at a time; they would let two owners of a partition take turns.
The lock is the kernel's (`flock`), so it goes with the process, however it ends, and a file that is left
behind locks nobody out. Readers need no lock; they open the store read-only.
"""

import fcntl
import os
from pathlib import Path

from coordinator.model.errors import TransientError


class StoreInUseError(TransientError):
    """Another process owns the store."""


class StoreLock:
    """Held from its creation until `release` or the end of the process."""

    def __init__(self, store: Path) -> None:
        path = store.with_name(store.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreInUseError(
                f"the store {store} is in use by process {owner or 'unknown'}; stop that one first"
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)
