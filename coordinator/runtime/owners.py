"""The port to those who own partitions: how they stand, what they tell, and what they answer.

The gateway appends commands to the log and hears from the owners what became of them; it asks the owners for what
operators want to see. Where the owners are is an adapter's business: processes that this one has started, whose
stores lie in its own directory (`local_owners`), or any process of a consumer group.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.runtime.channel import Standing, Told
from coordinator.runtime.views import Cursor, Ending, InvocationDetails, Listed, PartitionSummary

OnTold = Callable[[Told], None]


class Queries(Protocol):
    """Questions to one partition.

    Every answer is as new as the last `Applied` that was told of the partition. All raise UnavailableError, which
    names the partition, when nobody is there to answer, and CorruptionError when the store is damaged.
    """

    async def summary(self) -> PartitionSummary:
        """What the store says of the partition itself."""

    async def invocation(self, id: str) -> InvocationDetails | None:
        """One invocation, None when it is not there or a batch in force has purged it."""

    async def endings(self, ids: Sequence[str]) -> dict[str, Ending]:
        """These invocations; without those that are not there or that a batch in force has purged."""

    async def page(self, filter: Filter, after: Cursor | None, limit: int) -> list[Listed]:
        """The first so many that match behind a cursor, newest first, then by id; fewer only at the end."""

    async def service_type(self, service: str) -> ServiceType | None:
        """What kind of service its invocations show, None when there are none."""


class Owners(Protocol):
    """The owners of all partitions. Everything is called in one event loop."""

    def start(self, on_told: OnTold) -> None:
        """Begin to listen; `on_told` is called on any thread with each word of an owner."""

    def standing(self, partition: int) -> Standing | None:
        """The newest word of the partition's owner; None while it has none, or none that is heard."""

    def owner(self, partition: int) -> str | None:
        """Which process owns the partition, for a person; None while none does."""

    def queries(self, partition: int) -> Queries:
        """Questions to this partition."""

    async def close(self) -> None:
        """Stop listening, and end what this has started."""
