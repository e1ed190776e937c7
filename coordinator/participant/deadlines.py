"""When to poke which attempt: one timer of the event loop for all of them."""

import asyncio
import heapq
import itertools
import time

from coordinator.model.limits import SECOND_US
from coordinator.participant.attempt import Attempt


def now_us() -> int:
    """Microseconds since the epoch: what sleeps are over by."""
    return time.time_ns() // 1000


class Deadlines:
    """Attempts by their deadlines. An entry whose attempt has another deadline by then does nothing."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Attempt]] = []
        self._count = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    def add(self, at_us: int, attempt: Attempt) -> None:
        """Poke the attempt at that time."""
        heapq.heappush(self._heap, (at_us, next(self._count), attempt))
        self._set_timer()

    def close(self) -> None:
        """Poke nobody any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        first = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= first:
                return
            self._timer.cancel()
        self._timer_at = first
        delay_s = max(0, first - now_us()) / SECOND_US
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = now_us()
        while self._heap and self._heap[0][0] <= now:
            at_us, _, attempt = heapq.heappop(self._heap)
            if attempt.deadline == at_us:
                attempt.poke()
        if self._heap:
            self._set_timer()
