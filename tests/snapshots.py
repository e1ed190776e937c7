"""A partition with a log, a store and snapshots, for the tests of those, and what one does to an archive's objects."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Stream
from coordinator.model import messages
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.owner import PartitionOwner
from coordinator.runtime.snapshots.making import create
from coordinator.runtime.snapshots.recovery import open_store, stored_state
from coordinator.stores.archive import SnapshotArchive, SnapshotName
from coordinator.stores.reader import StoreReader


class Partition:
    """Partition 0 of a log in a folder, driven by the test: it applies when it is told to, until its log's end."""

    def __init__(self, folder: Path, archive: SnapshotArchive | None) -> None:
        self.data = DataDirectory(folder)
        self.log: EmbeddedLog = self.data.open_log(1)
        self.archive = archive
        self.path = self.data.store(0)
        self._sent = 0

    def close(self) -> None:
        self.log.close()

    def append(self, count: int) -> None:
        """Append that many invocations."""
        first, self._sent = self._sent, self._sent + count
        self.log.append([invoke(number) for number in range(first, self._sent)])

    def apply(self) -> PartitionOwner:
        """Own the partition until its log is applied, or it stands still."""
        end = self.log.bounds(Stream.COMMANDS, 0).end

        def applied(_partition: int, position: int, _answers: Sequence[object]) -> None:
            if position == end - 1:
                owner.stop()

        def taken_over() -> None:
            if self.position == end - 1:
                owner.stop()

        store = partial(open_store, self.data, self.log, 0, self.archive)
        owner = PartitionOwner(self.log, store, 0, on_applied=applied, on_taken_over=taken_over)
        owner.run()
        return owner

    def grow(self, count: int) -> None:
        """Append and apply."""
        self.append(count)
        assert self.apply().failure is None

    @property
    def position(self) -> int:
        """What the file has applied; -1 without one."""
        state = stored_state(self.path)
        return -1 if state is None else state.position

    def dump(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The canonical dump of the file."""
        reader = StoreReader(self.path)
        try:
            return list(reader.dump())
        finally:
            reader.close()

    def lose_store(self) -> None:
        """The store is gone, as on another machine."""
        for path in self.path.parent.glob(self.path.name + "*"):
            path.unlink()

    def snapshot(self) -> SnapshotName:
        """Make one now."""
        assert self.archive is not None
        return create(self.path, self.archive, self.data.snapshot(0))


def invoke(number: int) -> Entry:
    """An invocation of its own number."""
    id = f"inv_1{number:033}"
    return Entry(Stream.COMMANDS, 0, messages.encode(messages.Invoke(id=id, service="S", handler="h", input=b"{}")))


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
