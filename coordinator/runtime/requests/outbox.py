"""Publishing what the coordinator wants appended: at least once, in order, again after a failure.

One append is under way at a time, so that order survives a failure: what follows waits for it. A failed append
says nothing about its entries (they may be on the log), so all of them are appended again; their receivers
know repeats.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final

import structlog

from coordinator.logs.port import Entry, Log, LogError
from coordinator.model import limits
from coordinator.runtime.requests.file import Outgoing

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_LONGEST_S: Final = 5.0

_logger: Final = structlog.get_logger()


class Backoff:
    """The pause after a failure: doubled with each further one, over with a success."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._until = 0.0

    def failed(self) -> None:
        self._pause_s = min(max(BACKOFF_FIRST_S, 2 * self._pause_s), BACKOFF_LONGEST_S)
        self._until = time.monotonic() + self._pause_s

    def succeeded(self) -> None:
        self._pause_s = self._until = 0.0

    @property
    def left_s(self) -> float:
        """How long to wait still, 0 when it is over."""
        return max(0.0, self._until - time.monotonic()) if self._until else 0.0


def bounded(entries: Iterable[Entry]) -> list[Entry]:
    """As many of the first of them as one append should have."""
    found: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.value)
        if found and (len(found) >= limits.RUN_RECORDS_MAX or size > limits.RUN_BYTES_MAX):
            break
        found.append(entry)
    return found


class Outbox:
    """Entries on their way to the log. All calls from one thread."""

    def __init__(self, log: Log, stored: Iterable[Outgoing], acknowledged: Callable[[], None]) -> None:
        """Begin with what is `stored`. `acknowledged` is called, from any thread, when an append has come back."""
        self._log = log
        self._queue = deque(stored)
        self._acknowledged = acknowledged
        self._under_way: Future[list[int]] | None = None
        self._count = 0  # entries at the head of the queue that are under way
        self.backoff = Backoff()
        self.published = 0
        """The highest number that the log has acknowledged, and with it all lower ones."""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, outgoing: Iterable[Outgoing]) -> None:
        """Behind all others. Entries that are not stored have the number 0."""
        self._queue.extend(outgoing)

    def push(self) -> bool:
        """Take note of an append that came back and start the next one; whether there was anything to do."""
        done = self._under_way
        if done is not None:
            if not done.done():
                return False
            self._under_way = None
            self._settle(done.exception())
        started = self._start()
        return started or done is not None

    def _start(self) -> bool:
        if not self._queue or self.backoff.left_s:
            return False
        entries = bounded(entry for _, entry in self._queue)
        self._count = len(entries)
        try:
            self._under_way = self._log.submit(entries)
        except LogError as error:
            self._settle(error)
            return True
        self._under_way.add_done_callback(lambda _: self._acknowledged())
        return True

    def _settle(self, error: BaseException | None) -> None:
        if error is not None:
            _logger.warning("requests_append_failed", error=str(error), entries=self._count, queued=len(self._queue))
            self.backoff.failed()
            return
        self.backoff.succeeded()
        for _ in range(self._count):
            self.published = max(self.published, self._queue.popleft().number)
