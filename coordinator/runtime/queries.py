"""Operators' queries: rows of all partitions, read from the stores, as the batches in force have left them.

Stores are read beside their owner, at what it has committed. Pending batches are folded on top of what is
read, so a query never shows an invocation as alive that a batch in force has ended.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from coordinator.model.filters import Filter, predicate
from coordinator.model.invocation import Invocation, ServiceType
from coordinator.model.statuses import Status
from coordinator.partition.glimpse import as_seen
from coordinator.partition.pending import Pending, in_force
from coordinator.partition.state import BatchState, State, decode_batch, decode_state
from coordinator.runtime.views import (
    Cursor,
    Ending,
    InvocationDetails,
    Listed,
    PartitionSummary,
    PendingBatchView,
    invocation_details,
    invocation_view,
)
from coordinator.stores.reader import StoreReader
from coordinator.stores.sqlite import errors_of

_IMMUTABLE: Final = ("service", "handler", "key", "target", "ids", "created_before", "created_after", "all")


class Batches(NamedTuple):
    """The batches of one partition at one moment."""

    pending: list[Pending]
    names: dict[int, str]
    """By the positions at which they took effect."""


class PartitionQueries:
    """Queries on one partition's store. Thread-safe. All raise CorruptionError when the store is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = StoreReader(path)

    def state(self) -> State | None:
        """The machine's scalars as last committed; None before the first commit."""
        stored = self._reader.state()
        with errors_of(self._path):
            return None if stored is None else decode_state(stored)

    def batches(self) -> Batches:
        """What is known of batches now."""
        stored = self._reader.batches()
        with errors_of(self._path):
            states = [decode_batch(value) for _, _, value in stored]
        pending = in_force(states, self._reader)
        names = {
            position: state.request
            for state in states
            for position in (*state.positions, state.announced_at)
            if position is not None
        }
        return Batches(pending, names)

    def summary(self) -> PartitionSummary:
        """What the store says of the partition itself."""
        with self._reader.snapshot():
            state = self.state()
            if state is None:
                return PartitionSummary()
            return PartitionSummary(
                position=state.position,
                level=state.level,
                tick=state.tick,
                works=state.works,
                held=sum(state.held.values()),
                backlog=sum(state.backlog.values()),
                loose_keys=state.loose_keys,
                loose_at=state.loose_at,
                pending=[_pending_view(batch.state) for batch in self.batches().pending],
            )

    def invocation(self, id: str) -> InvocationDetails | None:
        """One invocation, None when it is not there or a batch in force has purged it."""
        with self._reader.snapshot():
            row = self._reader.invocation(id)
            if row is None:
                return None
            batches = self.batches()
            seen = as_seen(row, batches.pending)
            if seen is None:
                return None
            return invocation_details(seen, _name(seen, batches), self._reader.payload(row.seq))

    def endings(self, ids: Sequence[str]) -> dict[str, Ending]:
        """These invocations; without those that are not there or that a batch in force has purged."""
        found: dict[str, Ending] = {}
        with self._reader.snapshot():
            for row, batch in list(self._rows(Filter(ids=tuple(ids)), None, None)):
                output = self._reader.payload(row.seq).output if row.outcome is not None else None
                found[row.id] = Ending(invocation_view(row, batch), output)
        return found

    def service_type(self, service: str) -> ServiceType | None:
        """What kind of service its invocations show, None when there are none."""
        found = self._reader.service_type(service)
        return None if found is None else ServiceType(found)

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()

    def page(self, filter: Filter, after: Cursor | None, limit: int) -> list[Listed]:
        """The first so many that match behind a cursor, newest first, then by id; fewer only at the end."""
        with self._reader.snapshot():
            return [
                Listed(row.created_at, invocation_view(row, batch)) for row, batch in self._rows(filter, after, limit)
            ]

    def _rows(self, filter: Filter, after: Cursor | None, limit: int | None) -> Iterator[tuple[Invocation, str | None]]:
        """Rows that match as they are seen, newest first, then by id, each with the name of its batch."""
        batches = self.batches()
        if not batches.pending:
            for row in self._reader.rows(filter, after=_behind(after), limit=limit):
                yield row, _name(row, batches)
            return
        # A pending batch may change what a filter on a status sees: only what never changes is left to SQL.
        kept = {name: getattr(filter, name) for name in _IMMUTABLE}
        matches = predicate(filter)
        found = 0
        for row in self._reader.rows(Filter(**kept), after=_behind(after), limit=None):
            seen = as_seen(row, batches.pending)
            if seen is not None and matches(seen):
                yield seen, _name(seen, batches)
                found += 1
                if found == limit:
                    return


def _behind(cursor: Cursor | None) -> tuple[int, str] | None:
    return None if cursor is None else (cursor.at, cursor.id)


def _name(row: Invocation, batches: Batches) -> str | None:
    """The batch that last took effect on it: itself, or of one that has ended through its parent."""
    position = row.cancel_batch if row.batch is None and row.status == Status.COMPLETED else row.batch
    return None if position is None else batches.names.get(position)


def _pending_view(batch: BatchState) -> PendingBatchView:
    return PendingBatchView(
        id=batch.request,
        action=batch.action,
        position=batch.position,
        cursor_fraction=batch.cursor_ppm / 1e6,
        matched=batch.tally.matched,
        paused=batch.paused,
    )
