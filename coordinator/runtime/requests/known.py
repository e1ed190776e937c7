"""The reading side of the coordinator in memory: what is known of requests and deployments, and who waits for more.

A role derives from it and calls `_show` with what has changed, once that is safe: who reads never sees what
a crash could take back.
"""

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

import structlog

from coordinator.logs.port import Stream
from coordinator.requests import lifecycle
from coordinator.requests.deployments import Registry
from coordinator.requests.state import Request
from coordinator.runtime.errors import UnavailableError

READ: Final = (Stream.REQUESTS, Stream.PROGRESS)
"""What the coordinator reads, in this order: the cause of progress stands on `requests`, so it is normally known
before its effect."""

_logger: Final = structlog.get_logger()


class KnownRequests:
    """`port.Requests`, of which one thread at a time says what has changed."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}
        self._active: set[str] = set()
        self._registry = Registry()
        self._next = dict.fromkeys(READ, 0)
        self._failure: Exception | None = None
        self._over = False
        self._subscribers: tuple[Callable[[str], None], ...] = ()
        self._registry_subscribers: tuple[Callable[[], None], ...] = ()
        self._waiting: list[tuple[int, int, Future[None]]] = []
        """Who waits, for which position, as a heap; the number in between only keeps two of one position apart."""
        self._count = itertools.count()
        self._moved = threading.Condition()
        """Guards what other threads look at; notified after each change."""

    def get(self, request_id: str) -> Request | None:
        request = self._requests.get(request_id)
        return None if request is None or request.submission is None else request

    def list(self) -> Sequence[Request]:
        with self._moved:
            known = [request for request in self._requests.values() if request.submission is not None]
        return sorted(known, key=lambda request: (-request.submitted_at, request.id))

    def applied(self, position: int) -> "Future[None]":
        waiting: Future[None] = Future()
        with self._moved:
            if self._next[Stream.REQUESTS] > position:
                waiting.set_result(None)
            elif self._over:
                waiting.set_exception(self._stopped())
            else:
                heapq.heappush(self._waiting, (position, next(self._count), waiting))
        return waiting

    def wait_applied(self, position: int, timeout_s: float) -> bool:
        waiting = self.applied(position)
        try:
            waiting.result(timeout_s)
        except TimeoutError:
            waiting.cancel()
            return False
        return True

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        with self._moved:
            self._subscribers = (*self._subscribers, callback)
        return lambda: self._unsubscribe(callback)

    def deployments(self) -> Registry:
        return self._registry

    def subscribe_deployments(self, callback: Callable[[], None]) -> Callable[[], None]:
        with self._moved:
            self._registry_subscribers = (*self._registry_subscribers, callback)
        return lambda: self._unsubscribe_deployments(callback)

    @property
    def active_count(self) -> int:
        return len(self._active)

    @property
    def positions(self) -> Mapping[Stream, int]:
        with self._moved:
            return dict(self._next)

    @property
    def failure(self) -> Exception | None:
        return self._failure

    # -- for the role that derives from it -------------------------------------------------------------------

    def _show(
        self,
        positions: Mapping[Stream, int],
        *,
        changed: Iterable[Request] = (),
        registry: Registry | None = None,
        forgotten: Iterable[str] = (),
    ) -> None:
        """Make a change visible, all at once, and tell the subscribers of it. None leaves the registry as it is."""
        ids = []
        with self._moved:
            self._next.update(positions)
            for request in changed:
                self._know(request)
                if request.submission is not None:
                    ids.append(request.id)
            for id in forgotten:
                self._requests.pop(id, None)
                self._active.discard(id)
            registered = registry is not None and registry is not self._registry
            self._registry = registry or self._registry
            seen = [*self._take_waiting(self._next[Stream.REQUESTS])]
            self._moved.notify_all()
        for waiting in seen:
            waiting.set_result(None)
        for id in ids:
            self._tell(partial(callback, id) for callback in self._subscribers)
        if registered:
            self._tell(self._registry_subscribers)

    def _stop(self, failure: Exception | None) -> None:
        """Nothing more will be shown; whoever waits learns why. The first failure stays."""
        with self._moved:
            self._failure = self._failure or failure
            self._over = True
            left = [*self._take_waiting()]
            self._moved.notify_all()
        for waiting in left:
            waiting.set_exception(self._stopped())

    def _take_waiting(self, below: float = math.inf) -> "Iterator[Future[None]]":
        """Those who wait for positions below this one, and have not gone away."""
        while self._waiting and self._waiting[0][0] < below:
            _, _, waiting = heapq.heappop(self._waiting)
            if waiting.set_running_or_notify_cancel():
                yield waiting

    def _stopped(self) -> UnavailableError:
        return UnavailableError(f"the coordinator has stopped: {self._failure or 'it was closed'}")

    def _know(self, request: Request) -> None:
        self._requests[request.id] = request
        if request.submission is None or lifecycle.ended(request):
            self._active.discard(request.id)
        else:
            self._active.add(request.id)

    def _tell(self, callbacks: Iterable[Callable[[], None]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # a subscriber's fault is not the coordinator's
                _logger.error("requests_subscriber_failed", exc_info=error)

    def _unsubscribe(self, callback: Callable[[str], None]) -> None:
        with self._moved:
            self._subscribers = tuple(other for other in self._subscribers if other is not callback)

    def _unsubscribe_deployments(self, callback: Callable[[], None]) -> None:
        with self._moved:
            self._registry_subscribers = tuple(other for other in self._registry_subscribers if other is not callback)
