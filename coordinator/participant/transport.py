"""What a participant needs of whoever carries its deliveries and reports.

`HttpTransport` speaks to a server. In one process the server's dispatcher is itself a transport: the methods are
those of the HTTP routes, one for each, so both ends speak of the same things.

Errors, wherever a method says nothing else: NotFoundError when the session is over, and TransientError when it is
worth to try again. Any other CallerError says that trying again would not help.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from coordinator.model.messages import AnyDelivery, Report, ServiceSpec


class Answer(NamedTuple):
    """What became of one report, once it is applied."""

    code: int
    """200 applied; 409 the attempt is over, drop it; another 4xx refused for good; 503 not applied, send it again
    with all that follows of its invocation."""
    status: str | None = None
    """Of the invocation, where it is known."""
    detail: str | None = None
    """Why not, as a sentence."""


class Transport(Protocol):
    """The way to a dispatcher and back."""

    async def register(self, deployment: str, services: Sequence[ServiceSpec]) -> None:
        """Make the deployment known; the same again changes nothing.

        Raises ConflictError when another deployment has this id.
        """

    async def open(self, deployment: str, capacity: int) -> tuple[str, float]:
        """Begin a session that takes `capacity` attempts at once: its id, and its lease in seconds."""

    def deliveries(self, session: str) -> AsyncIterator[Sequence[AnyDelivery]]:
        """What is delivered, as it comes, as many at a time as there are.

        Replaces the session's stream of before. When it breaks off it raises TransientError, or just ends.
        """

    async def report(self, session: str, reports: Sequence[Report]) -> Sequence[tuple[int, str | None, str | None]]:
        """Have the reports applied, in their order for each invocation, and answer each as an `Answer`.

        Without reports it is a heartbeat. When it raises TransientError, some may have been applied.
        """

    async def leave(self, session: str) -> None:
        """End the session at once; the attempts that it has are given back."""
