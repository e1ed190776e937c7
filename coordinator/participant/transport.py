"""What a participant needs of whoever carries its deliveries and reports.

`HttpTransport` speaks to a server. The methods are those of its HTTP routes, one for each, with the same bytes, so
a dispatcher in the same process is easily made a transport, too.

Errors, wherever a method says nothing else: NotFoundError when the session is over, and TransientError when it is
worth to try again. Any other CallerError says that trying again would not help.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from coordinator.model.messages import ServiceSpec

Answer = tuple[int, str | None, str | None]
"""What became of one report, once it is applied: 200, 409 when its attempt is over, another 4xx when it is refused
for good; the invocation's status where it is known; and why not, as a sentence."""


class Transport(Protocol):
    """The way to a dispatcher and back. Messages are framed as `coordinator.model.framing` has it."""

    async def register(self, deployment: str, services: Sequence[ServiceSpec]) -> None:
        """Make the deployment known; the same again changes nothing.

        Raises ConflictError when another deployment has this id.
        """

    async def open(self, deployment: str, capacity: int) -> tuple[str, float]:
        """Begin a session that takes `capacity` attempts at once: its id, and its lease in seconds."""

    def deliveries(self, session: str) -> AsyncGenerator[bytes, None]:
        """Frames with deliveries, in whatever pieces they come. Replaces the session's stream of before.

        When it breaks off it raises TransientError, or just ends.
        """

    async def report(self, session: str, body: bytes) -> Sequence[Answer]:
        """Have the reports in these frames applied, in their order for each invocation, and answer each.

        Without any it is a heartbeat. When it raises TransientError, some may have been applied; to repeat them is
        harmless.
        """

    async def leave(self, session: str) -> None:
        """End the session at once; the attempts that it has are given back."""
