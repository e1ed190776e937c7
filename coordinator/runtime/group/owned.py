"""The partitions that this process owns: a thread with a `PartitionOwner` for each, and the questions about them.

What is wanted (`own`) and what is so (the threads) may differ for a while: an owner ends after the step it is in, and
only then its partition may be begun anew here. So each partition has a task of its own that brings the one to the
other.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from coordinator.logs.port import Log
from coordinator.partition.outputs import Answer
from coordinator.runtime.channel import Applied, Standing
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group.questions import (
    Asked,
    AskEndings,
    AskInvocation,
    AskPage,
    AskServiceType,
    AskSummary,
)
from coordinator.runtime.group.telling import Telling
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.local_owners import StoreQueries
from coordinator.runtime.owner import PartitionOwner
from coordinator.runtime.queries import PartitionQueries
from coordinator.runtime.snapshots.owned_stores import OwnedStores

STANDING_EVERY_S: Final = 1.0
BEHIND_S: Final = 5.0
"""How long a question waits for the partition to apply what whoever asks has seen applied."""
_LOOK_S: Final = 0.01
_AGAIN_S: Final = 1.0


class NotOwnedError(Exception):
    """This process does not own the partition."""


class _Owned:
    """One partition: its owner's thread, while there is one."""

    def __init__(
        self,
        data: DataDirectory,
        log: Log,
        stores: OwnedStores,
        partition: int,
        telling: Telling,
        *,
        on_taken_over: Callable[[], None],
    ) -> None:
        self.partition = partition
        self._telling = telling
        self._stores = stores
        self._owner = PartitionOwner(
            log,
            stores.own(partition),
            partition,
            on_applied=self._applied,
            on_taken_over=self._taken_over,
        )
        self._on_taken_over = on_taken_over
        self._told_caught_up = False
        self._store = PartitionQueries(data.store(partition))
        self.queries: Final = StoreQueries(self._store)
        self._thread = threading.Thread(target=self._run, name=f"partition-{partition}", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """Applied up to here."""
        return self._owner.position

    @property
    def behind(self) -> int:
        """Records of those found at the take-over that are not applied yet."""
        return self._owner.behind

    @property
    def applies(self) -> bool:
        """Whether it has begun to apply."""
        return self._owner.took_over

    @property
    def took_over(self) -> bool:
        """Whether it has applied all that was there when it took over, so that its answers are not old."""
        return self._owner.took_over and not self._owner.behind

    @property
    def failure(self) -> str | None:
        """Why it stands still."""
        return self._owner.failure

    def tell_standing(self) -> None:
        """Say how it stands. It counts as taken over once it can be asked."""
        one = self._owner
        kept = self._stores.kept(one.partition)
        self._telling.tell(
            Standing(
                one.partition,
                self.took_over,
                one.failure,
                one.records,
                one.ticks,
                one.longest_step_us,
                *kept,
                unpublished=one.unpublished,
            )
        )

    def end(self) -> None:
        """Stop, and return when the owner has closed the store. Questions under way are answered all the same."""
        self._stores.let_go(self.partition)
        self._owner.stop()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        self._owner.run()
        if self._owner.failure is not None:
            self.tell_standing()

    def _taken_over(self) -> None:
        self._on_taken_over()
        self.tell_standing()

    def _applied(self, partition: int, position: int, answers: Sequence[Answer]) -> None:
        self._telling.tell(Applied(partition, position, list(answers)))
        if not self._told_caught_up and self.took_over:
            self._told_caught_up = True
            self.tell_standing()


class OwnedPartitions:
    """Everything in one event loop."""

    def __init__(self, data: DataDirectory, log: Log, stores: OwnedStores, telling: Telling) -> None:
        self._data = data
        self._log = log
        self._stores = stores
        self._telling = telling
        self._wanted: frozenset[int] = frozenset()
        self._owned: dict[int, _Owned] = {}
        self._changing: dict[int, asyncio.Task[None]] = {}
        self._doubted = False
        self._closing = False
        self.takeovers = 0
        """How often a partition was taken over."""
        self._logger = structlog.get_logger()

    def own(self, partitions: frozenset[int]) -> None:
        """From now on own these and no others. While all of them end, nothing is begun any more."""
        if self._closing:
            return
        self._wanted = partitions
        self._doubted = False
        for number in partitions | self._owned.keys():
            if number not in self._changing:
                self._changing[number] = asyncio.create_task(self._change(number))

    def doubt(self) -> None:
        """They may be somebody else's by now: answer no questions before `own` has said more."""
        self._doubted = True

    def _taken_over(self) -> None:
        self.takeovers += 1

    @property
    def doubted(self) -> bool:
        """Whether it is not known if they are this process's."""
        return self._doubted

    @property
    def wanted(self) -> frozenset[int]:
        """What is to be owned."""
        return self._wanted

    @property
    def positions(self) -> dict[int, int]:
        """Up to where each partition that was taken over is applied."""
        return {number: one.position for number, one in self._owned.items() if one.applies}

    def unready(self) -> list[str]:
        """What of it does not work yet, or not any more."""
        reasons = []
        for number in sorted(self._wanted):
            one = self._owned.get(number)
            if one is not None and one.failure is not None:
                reasons.append(f"partition {number} stands still: {one.failure}")
            elif one is None or not one.took_over:
                reasons.append(_being_taken_over(number, one))
        return reasons

    def tell_standings(self) -> None:
        """Say how all of them stand."""
        for one in self._owned.values():
            one.tell_standing()

    async def answer(self, partition: int, asked: Asked) -> Any:
        """Answer a question, as `Queries` has it.

        Raises NotOwnedError, UnavailableError while the partition is being taken over or behind what is known of it,
        any other TransientError when its store cannot be read for now, and CorruptionError when that is damaged.
        """
        if partition not in self._wanted:
            raise NotOwnedError(f"partition {partition} is not owned here")
        if self._doubted:
            raise UnavailableError(f"partition {partition} may have another owner by now; try again in a moment")
        one = self._owned.get(partition)
        if one is None or (one.failure is None and not one.took_over):
            raise UnavailableError(_being_taken_over(partition, one))
        await self._until(one, asked.known)
        return await _ANSWERS[type(asked)](one.queries, asked)

    async def _until(self, one: _Owned, position: int) -> None:
        end = time.monotonic() + BEHIND_S
        while one.position < position:
            if one.failure is not None or time.monotonic() > end:
                raise UnavailableError(f"partition {one.partition} is behind; try again in a moment")
            await asyncio.sleep(_LOOK_S)

    async def _change(self, number: int) -> None:
        """Bring what is so to what is wanted. What fails is tried again."""
        try:
            while (number in self._wanted) != (number in self._owned):
                try:
                    if number in self._wanted:
                        self._begin(number)
                    else:
                        await self._let_go(number)
                except Exception:
                    self._logger.exception("partition_not_changed", partition=number, again_after_s=_AGAIN_S)
                    await asyncio.sleep(_AGAIN_S)
        finally:
            del self._changing[number]

    def _begin(self, number: int) -> None:
        self._owned[number] = _Owned(
            self._data, self._log, self._stores, number, self._telling, on_taken_over=self._taken_over
        )

    async def _let_go(self, number: int) -> None:
        one = self._owned.pop(number)  # at once: while it ends it counts for nothing, also if it is wanted again
        try:
            await asyncio.to_thread(one.end)
        finally:
            self._telling.forget(number)
        self._logger.info("partition_let_go", partition=number, position=one.position)

    async def close(self) -> None:
        """End all of them."""
        self.own(frozenset())
        self._closing = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._changing.values())


def _being_taken_over(partition: int, one: _Owned | None) -> str:
    left = f": {one.behind} records to go" if one is not None and one.applies else ""
    return f"partition {partition} is being taken over{left}; try again in a moment"


async def _service_type(queries: StoreQueries, asked: AskServiceType) -> int | None:
    found = await queries.service_type(asked.service)
    return None if found is None else int(found)


_ANSWERS: Final[dict[type, Callable[[StoreQueries, Any], Awaitable[Any]]]] = {
    AskSummary: lambda queries, asked: queries.summary(),
    AskInvocation: lambda queries, asked: queries.invocation(asked.id),
    AskEndings: lambda queries, asked: queries.endings(asked.ids),
    AskPage: lambda queries, asked: queries.page(asked.filter, asked.after, asked.limit),
    AskServiceType: _service_type,
}
