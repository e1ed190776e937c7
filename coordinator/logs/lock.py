"""The lock file that makes one process the owner of a log.

`flock` belongs to the open file, so the kernel lets go of it when the process ends, however it ends; a lock file
that is lying about means nothing. A child made by fork without exec holds it too, until it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from coordinator.logs.port import LogLockedError


class FileLock:
    """Held from construction to `release`. Raises LogLockedError when somebody else holds it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 20, 0).decode(errors="replace").strip() or "another process"
            os.close(self._fd)
            raise LogLockedError(
                f"{path} is held by process {owner}; stop it, or use another directory for the data"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
