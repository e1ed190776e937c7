"""One snapshot: made and seen to have arrived, or fetched and seen to be what it says.

Three things are checked, each where it can go wrong. That the copy is whole: SQLite's own check reads all of it, before
it is packed and again before it is used. That the bytes are those that were packed: their SHA-256 is part of the
name, and is computed again from what the archive gives back, at once and before each use. That it is of this
partition of this log: the copy's own state says so, and the digest of its last record is held against the log.

*Against* a digest of the canonical dump: it would take the owner's interpreter seconds for each snapshot to prove again
what the hash proves, that nothing has changed on the way. Whether the rows are right is another question, and
`check` answers it: from the snapshots and the log behind them.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from coordinator.model.errors import CorruptionError, TransientError
from coordinator.partition.state import State, decode_state
from coordinator.stores import copies
from coordinator.stores.archive import SnapshotArchive, SnapshotName


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for the block, whatever a killed process has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise TransientError(f"{folder} cannot be written for now: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create(store: Path, archive: SnapshotArchive, folder: Path) -> SnapshotName:
    """Snapshot a store beside its owner, with `folder` for the copy; what it is called in the archive.

    Raises CorruptionError when the store is damaged or what arrived is not what was sent, TransientError when the
    archive or the folder cannot be used.
    """
    with scratch(folder) as here:
        copy, packed = here / "copy.sqlite", here / "copy.sqlite.zst"
        copies.copy(store, copy)
        state = _state(copy)
        copies.pack(copy, packed)
        copy.unlink()  # so that it and the packed one and the upload's buffers are not all there at a time
        name = SnapshotName(state.log, state.partition, state.position, state.digest, copies.sha256(packed))
        archive.put(name, packed)
        if not archive.is_whole(name):
            archive.delete(name)
            raise CorruptionError(f"{name} did not arrive in {archive.place} as it was sent; check what is between")
        return name


def fetch(name: SnapshotName, archive: SnapshotArchive, folder: Path) -> Path:
    """Get a snapshot out of the archive; the copy in `folder`, ready to be a store.

    Raises CorruptionError when it is not what its name says.
    """
    copy, packed = folder / "copy.sqlite", folder / "copy.sqlite.zst"
    copy.unlink(missing_ok=True)
    if not archive.get(name, packed):
        raise CorruptionError(f"{name} does not have the bytes that it was made with")
    copies.unpack(packed, copy)
    packed.unlink()
    state = _state(copy)
    if (state.log, state.partition, state.position, state.digest) != (
        name.log,
        name.partition,
        name.position,
        name.record,
    ):
        raise CorruptionError(
            f"{name} is of partition {state.partition} at position {state.position} of log {state.log}"
        )
    return copy


def _state(copy: Path) -> State:
    try:
        return decode_state(copies.inspect(copy))
    except msgspec.DecodeError as error:
        raise CorruptionError(f"the state in the copy {copy} cannot be read ({error})") from error
