"""When requests are due and when they may be forgotten, and which lapses are under way.

A lapse is a record, so a timer is asked for when it is due and expires when that record is read back. Until
then it is not asked for again.
"""

from collections.abc import Iterable
from typing import Final

from coordinator.model import limits
from coordinator.requests import lifecycle, machine
from coordinator.requests.state import Request

AGAIN_US: Final = limits.SECOND_US // 4
"""Time between two lapses of a request, should the log's clock be behind so that the first came too early."""


class Timers:
    """The times of all requests that a role knows. All calls from one thread."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._forget: dict[str, int] = {}
        self._lapsing: set[str] = set()
        """Requests with a lapse that was given to the log and not read back."""
        self._lapsed: dict[str, int] = {}
        """When that was read back, as long as the request is still due."""

    def know(self, request: Request) -> None:
        """Take the request's times from what it is now."""
        _keep(self._due, request.id, machine.due_at(request))
        _keep(self._forget, request.id, lifecycle.forget_at(request))
        if request.id not in self._due:
            self._lapsed.pop(request.id, None)

    def forget(self, ids: Iterable[str]) -> None:
        """These are known no longer."""
        for id in ids:
            for times in (self._due, self._forget, self._lapsed):
                times.pop(id, None)

    def take_late(self, now_us: int) -> list[str]:
        """The requests that are due and have no lapse under way. They count as having one from now on."""
        late = [id for id in self._due if id not in self._lapsing and self._lapse_at(id) <= now_us]
        self._lapsing.update(late)
        return late

    def read_back(self, ids: frozenset[str], now_us: int) -> None:
        """The lapses of these have been folded."""
        self._lapsing -= ids
        self._lapsed.update(dict.fromkeys(ids & self._due.keys(), now_us))

    def forgettable(self, now_us: int) -> list[str]:
        """The requests that nobody can ask for any more."""
        return [id for id, at in self._forget.items() if at <= now_us]

    def pause_us(self, now_us: int) -> int:
        """How long no request is due, negative when one is overdue; at most a day."""
        return min((self._lapse_at(id) - now_us for id in self._due if id not in self._lapsing), default=limits.DAY_US)

    def _lapse_at(self, request_id: str) -> int:
        lapsed = self._lapsed.get(request_id)
        return self._due[request_id] if lapsed is None else max(self._due[request_id], lapsed + AGAIN_US)


def _keep(times: dict[str, int], request_id: str, at: int | None) -> None:
    if at is None:
        times.pop(request_id, None)
    else:
        times[request_id] = at
