"""One listing over all partitions: each is asked for its rows page by page, and the pages are merged.

The order is the same everywhere, newest `created_at` first, then by id, so a cursor leads back to the same place
whichever process is asked next. No more than a page of each partition is in memory.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from coordinator.model.filters import Filter
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.owners import Queries
from coordinator.runtime.views import Cursor, InvocationView, Listed

PAGE: Final = 500


class _Source:
    """What is left of one partition."""

    def __init__(self, partition: Queries, filter: Filter, after: Cursor | None, page: int) -> None:
        self._partition = partition
        self._filter = filter
        self._after = after
        self._page = page
        self._over = False
        self.rows: deque[Listed] = deque()

    async def fill(self) -> None:
        """Have a row at hand, unless there is none left."""
        if self.rows or self._over:
            return
        found = await self._partition.page(self._filter, self._after, self._page)
        self.rows.extend(found)
        self._over = len(found) < self._page
        if found:
            self._after = Cursor(found[-1].at, found[-1].invocation.id)

    @property
    def place(self) -> tuple[int, str]:
        """Where its next row stands in the listing."""
        return -self.rows[0].at, self.rows[0].invocation.id


async def listing(
    partitions: Sequence[Queries], filter: Filter, after: Cursor | None, limit: int | None
) -> AsyncIterator[list[InvocationView]]:
    """What matches, in chunks of up to a page.

    Raises UnavailableError that names every partition without an answer: a list without its rows would pass for a
    whole one.
    """
    page = PAGE if limit is None else min(limit, PAGE)
    sources = [_Source(partition, filter, after, page) for partition in partitions]
    await _fill(sources)
    heap = [(source.place, number) for number, source in enumerate(sources) if source.rows]
    heapq.heapify(heap)
    chunk: list[InvocationView] = []
    left = limit
    while heap and left != 0:
        number = heap[0][1]
        source = sources[number]
        chunk.append(source.rows.popleft().invocation)
        left = None if left is None else left - 1
        if len(chunk) == PAGE:
            yield chunk
            chunk = []
        if left != 0:
            await source.fill()
        if source.rows:
            heapq.heapreplace(heap, (source.place, number))
        else:
            heapq.heappop(heap)
    if chunk:
        yield chunk


async def _fill(sources: Sequence[_Source]) -> None:
    found = await asyncio.gather(*(source.fill() for source in sources), return_exceptions=True)
    errors = [one for one in found if one is not None]
    unavailable = [error for error in errors if isinstance(error, UnavailableError)]
    if errors and len(unavailable) == len(errors):
        raise UnavailableError("; ".join(str(error) for error in unavailable))
    for error in errors:
        if not isinstance(error, UnavailableError):
            raise error
