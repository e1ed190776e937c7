"""A participant in the server's own process: the methods of a transport, by calls instead of HTTP.

The names and errors are those of `coordinator.participant.Transport`, which this does not import: whoever has both
passes one to the other.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from coordinator.model import limits, messages
from coordinator.runtime.dispatch.dispatcher import Reported

if TYPE_CHECKING:
    from coordinator.runtime.gateway import Gateway


class InProcess:
    """The way from handlers in this process to its dispatcher: `serve(greeter, transport=InProcess(gateway))`."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def register(self, deployment: str, services: Sequence[messages.ServiceSpec]) -> None:
        """Make the deployment known. Raises ConflictError when another one has this id."""
        await self._gateway.register(messages.Register(deployment=deployment, services=tuple(services)))

    async def open(self, deployment: str, capacity: int) -> tuple[str, float]:
        """Begin a session: its id, and its lease in seconds."""
        return self._gateway.dispatcher.open(deployment, capacity), limits.LEASE_US / limits.SECOND_US

    async def deliveries(self, session: str) -> AsyncGenerator[bytes, None]:
        """Frames with deliveries, as they come. Raises NotFoundError when the session is over."""
        async with contextlib.aclosing(self._gateway.dispatcher.stream(session)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def report(self, session: str, body: bytes) -> Sequence[Reported]:
        """Have the reports in these frames applied. Raises NotFoundError when the session is over."""
        return await self._gateway.dispatcher.report(session, body)

    async def leave(self, session: str) -> None:
        """End the session. Raises NotFoundError when it is over."""
        self._gateway.dispatcher.leave(session)
