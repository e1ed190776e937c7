"""The stores of the partitions that a process owns, with snapshots of them where there are to be any.

What worker processes of one machine and those of a group on Kafka share.
"""

from collections.abc import Callable
from functools import partial

from coordinator.logs.port import Log
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.keeper import Kept, SnapshotKeeper
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.runtime.snapshots.recovery import open_store
from coordinator.stores.archive import SnapshotArchive
from coordinator.stores.port import Store


class OwnedStores:
    """All methods may be called from any thread."""

    def __init__(self, data: DataDirectory, log: Log, snapshots: SnapshotPolicy | None) -> None:
        """Without a policy no snapshots are made, and none are used."""
        self._data = data
        self._log = log
        self._archive: SnapshotArchive | None = None
        self._keeper: SnapshotKeeper | None = None
        if snapshots is not None:
            self._archive = SnapshotArchive(snapshots.place, make=True)
            self._keeper = SnapshotKeeper(log, data, self._archive, snapshots)

    def start(self) -> None:
        """Make snapshots from now on."""
        if self._keeper is not None:
            self._keeper.start()

    def stop(self) -> None:
        """Make no more."""
        if self._keeper is not None:
            self._keeper.stop()

    def own(self, partition: int) -> Callable[[], Store]:
        """The partition is this process's from now on; what opens its store, from a snapshot if need be."""
        if self._keeper is not None:
            self._keeper.watch(partition)
        return partial(open_store, self._data, self._log, partition, self._archive)

    def let_go(self, partition: int) -> None:
        """It is no longer."""
        if self._keeper is not None:
            self._keeper.unwatch(partition)

    def kept(self, partition: int) -> Kept:
        """How its snapshots stand."""
        return Kept() if self._keeper is None else self._keeper.kept(partition)
