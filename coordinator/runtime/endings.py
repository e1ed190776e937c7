"""Waiting for invocations to end, and what they have come to.

Whoever waits is woken by what partitions apply: a look at the store follows, a few times a second at most, and one
look serves all who wait on the partition.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from coordinator.model.errors import NotFoundError
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.owners import Queries
from coordinator.runtime.views import Ending

LOOK_EVERY_S: Final = 0.05


class _Partition:
    """Those who wait on one partition."""

    def __init__(self) -> None:
        self.waiting: dict[str, set[asyncio.Future[Ending]]] = {}
        self.looking: asyncio.Task[None] | None = None
        self.moved = False
        """Whether something was applied since the last look began."""


class Endings:
    """All of it in one event loop."""

    def __init__(self, queries: Sequence[Queries]) -> None:
        self._queries = queries
        self._partitions = [_Partition() for _ in queries]

    async def of(self, id: str, partition: int, timeout_s: float) -> Ending:
        """How the invocation has ended, or how it stands when the time is up.

        Raises NotFoundError when it is not there, UnavailableError when the server ends.
        """
        here = self._partitions[partition]
        future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        here.waiting.setdefault(id, set()).add(future)
        self.applied(partition)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            pass
        finally:
            waiting = here.waiting[id]
            waiting.discard(future)
            if not waiting:
                del here.waiting[id]
        found = await self._queries[partition].endings([id])
        if id not in found:
            raise _not_there(id)
        return found[id]

    def applied(self, partition: int) -> None:
        """The partition has applied something."""
        here = self._partitions[partition]
        here.moved = True
        if here.waiting and here.looking is None:
            here.looking = asyncio.create_task(self._look(partition))

    def close(self) -> None:
        """Nobody waits any longer: the server is ending."""
        for here in self._partitions:
            for future in [future for waiting in here.waiting.values() for future in waiting]:
                if not future.done():
                    future.set_exception(UnavailableError("the server is ending; ask again in a moment"))

    async def _look(self, partition: int) -> None:
        """Look as long as there is news and somebody to whom it matters."""
        here, queries = self._partitions[partition], self._queries[partition]
        try:
            while here.moved and here.waiting:
                here.moved = False
                asked = list(here.waiting)
                found = await queries.endings(asked)
                for id in asked:
                    self._tell(here, id, found.get(id))
                await asyncio.sleep(LOOK_EVERY_S)
        except Exception as error:  # noqa: BLE001 - whatever it was, who waits must learn of it
            for future in [future for waiting in here.waiting.values() for future in waiting]:
                if not future.done():
                    future.set_exception(error)
        finally:
            here.looking = None

    def _tell(self, here: _Partition, id: str, ending: Ending | None) -> None:
        for future in here.waiting.get(id, ()):
            if future.done():
                continue
            if ending is None:
                future.set_exception(_not_there(id))
            elif ending.invocation.outcome is not None:
                future.set_result(ending)


def _not_there(id: str) -> NotFoundError:
    return NotFoundError(f"{id} is not there, or no longer")
