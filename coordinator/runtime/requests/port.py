"""What surfaces ask the coordinator, wherever it runs: the reading side that all of its roles have in common.

Whoever wants something changed appends a record to `requests`, waits until it is applied, and looks again.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from coordinator.logs.port import Stream
from coordinator.requests.deployments import Registry
from coordinator.requests.state import Request


class Requests(Protocol):
    """Requests and deployments as of one position of each stream. Every method may be called from any thread."""

    def get(self, request_id: str) -> Request | None:
        """The request; None when it was never submitted or is forgotten."""

    def list(self) -> Sequence[Request]:
        """All requests that are remembered, the last submitted first."""

    def applied(self, position: int) -> "Future[None]":
        """Is done once what the record at `position` of `requests` does is seen here.

        Fails with UnavailableError when nothing more will be seen. May be cancelled.
        """

    def wait_applied(self, position: int, timeout_s: float) -> bool:
        """`applied`, waited for by a thread; false when time is up."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback` with the id of each request that has changed, once that is seen; what ends that is returned.

        It is called from a thread of the role's, which it must not hold up.
        """

    def deployments(self) -> Registry:
        """The registry of deployments."""

    def subscribe_deployments(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the registry has changed, as `subscribe` does."""

    @property
    def active_count(self) -> int:
        """Requests that not every partition is done with."""

    @property
    def positions(self) -> Mapping[Stream, int]:
        """The next position of `requests` and of `progress`: all below is seen."""

    @property
    def failure(self) -> Exception | None:
        """Why nothing more will be seen, until that is mended and the role is started again."""
