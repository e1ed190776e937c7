"""Copies of a partition's file: taken beside its owner, seen to be whole, packed for a journey.

A copy is one read transaction of a connection of its own (`VACUUM INTO`), so it is of one commit, and the owner
waits for none of it. What it costs the owner is the WAL, which cannot start over before the copy is done and grows by
what is committed meanwhile. *Against* SQLite's backup API: in steps it starts over whenever the owner commits; in one
step it holds the same read transaction for half as long, and copies all the holes that sweeps and purges have left.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from coordinator.model.errors import CorruptionError, TransientError
from coordinator.stores import schema
from coordinator.stores.sqlite import BUSY_MS, errors_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_BYTES: Final = 1 << 20
_LEVEL: Final = 1
"""Of the compression, to an eighth: level 3 takes twice as long and makes it no smaller."""


def copy(store: Path, to: Path) -> None:
    """Write what the store's owner has last committed into a new file.

    Raises CorruptionError when the store is damaged, TransientError when there is no room.
    """
    with errors_of(store):
        file = _file(store)
        with _opened(store) as connection:
            schema.check(connection, store)
            connection.execute("VACUUM INTO ?", (str(to),))
        if _file(store) != file:  # `put_in_place` may have taken away the WAL before it was read
            raise TransientError(f"the store {store} was replaced while it was copied")


def _file(store: Path) -> int:
    try:
        return store.stat().st_ino
    except FileNotFoundError:
        raise TransientError(f"there is no store {store} to copy") from None


def inspect(copy: Path) -> bytes:
    """The machine's scalars in a copy. Reads all of it; raises CorruptionError unless it is whole."""
    with errors_of(copy), _opened(copy) as connection:
        schema.check(connection, copy)
        *_, found = connection.execute("PRAGMA quick_check(1)").get.splitlines()  # the first line names the schema
        if found != "ok":
            raise CorruptionError(f"the copy {copy} is damaged ({found})")
        state = connection.execute("SELECT value FROM scalar WHERE name = 'state'").get
    if state is None:
        raise CorruptionError(f"the copy {copy} is of a store that has applied nothing")
    return bytes(state)


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(BUSY_MS)
        yield connection
    finally:
        connection.close()


def pack(copy: Path, to: Path) -> None:
    """Compress a copy."""
    with copy.open("rb") as source, zstd.open(to, "wb", level=_LEVEL) as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)


def unpack(packed: Path, to: Path) -> None:
    """Undo `pack`. Raises CorruptionError when that is not what made it."""
    try:
        with zstd.open(packed, "rb") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except (zstd.ZstdError, EOFError) as error:
        raise CorruptionError(f"{packed} cannot be unpacked ({error})") from error


def sha256(path: Path) -> str:
    """Of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Return once the file, or the entries of the directory, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(copy: Path, store: Path) -> None:
    """Make the copy the store. The caller holds the store's lock.

    What belongs to an old file goes first: SQLite would apply its WAL to the new one.
    """
    sync(copy)
    for path in (store, *beside(store)):
        path.unlink(missing_ok=True)
    copy.rename(store)
    sync(store.parent)


def beside(store: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside it."""
    return store.with_name(store.name + "-wal"), store.with_name(store.name + "-shm")
