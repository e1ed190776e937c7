"""Owners that this process has started itself: workers on one data directory, whose stores are read beside them."""

import asyncio
from collections.abc import Sequence
from typing import Final

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Stream
from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.runtime.channel import Standing
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.owners import OnTold
from coordinator.runtime.queries import PartitionQueries
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.runtime.views import Cursor, Ending, InvocationDetails, Listed, PartitionSummary
from coordinator.runtime.workers import WorkerPool


class StoreQueries:
    """Questions to one partition, answered from its store by threads of the event loop's pool."""

    def __init__(self, partition: PartitionQueries) -> None:
        self._partition: Final = partition

    async def summary(self) -> PartitionSummary:
        """What the store says of the partition itself."""
        return await asyncio.to_thread(self._partition.summary)

    async def invocation(self, id: str) -> InvocationDetails | None:
        """One invocation, None when it is not there or a batch in force has purged it."""
        return await asyncio.to_thread(self._partition.invocation, id)

    async def endings(self, ids: Sequence[str]) -> dict[str, Ending]:
        """These invocations; without those that are not there or that a batch in force has purged."""
        return await asyncio.to_thread(self._partition.endings, ids)

    async def page(self, filter: Filter, after: Cursor | None, limit: int) -> list[Listed]:
        """The first so many that match behind a cursor, newest first, then by id; fewer only at the end."""
        return await asyncio.to_thread(self._partition.page, filter, after, limit)

    async def service_type(self, service: str) -> ServiceType | None:
        """What kind of service its invocations show, None when there are none."""
        return await asyncio.to_thread(self._partition.service_type, service)


class LocalOwners:
    """A pool of worker processes, and their stores."""

    def __init__(self, data: DataDirectory, log: EmbeddedLog, snapshots: SnapshotPolicy | None) -> None:
        self._data = data
        self._log = log
        self._snapshots = snapshots
        self._stores = [PartitionQueries(data.store(number)) for number in range(log.partitions(Stream.COMMANDS))]
        self._queries = [StoreQueries(store) for store in self._stores]
        self._pool: WorkerPool | None = None

    def start(self, on_told: OnTold) -> None:
        """Start the workers."""
        self._pool = WorkerPool(self._data, self._log, len(self._stores), on_told, self._snapshots)
        self._pool.start()

    def standing(self, partition: int) -> Standing | None:
        """The newest word of the partition's worker, None while it has none."""
        return None if self._pool is None else self._pool.standings.get(partition)

    def owner(self, partition: int) -> str | None:
        """The worker and its process id."""
        return None if self._pool is None else self._pool.owner(partition)

    def queries(self, partition: int) -> StoreQueries:
        """Questions to this partition."""
        return self._queries[partition]

    async def close(self) -> None:
        """End the workers, and close the queries' connections."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)
        for store in self._stores:
            store.close()
