"""A batch that was submitted: following it and changing it, by whatever way its client has to the coordinator."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from coordinator.client.requests import BatchRequest
from coordinator.client.views import Progress

Verb = Literal["pause", "resume", "abort"]


class Batch(ABC):
    """A batch on the server, running or over."""

    def __init__(self, latest: Progress) -> None:
        self.latest = latest
        """The newest that was heard of it."""

    @property
    def id(self) -> str:
        """The request id."""
        return self.latest.id

    @abstractmethod
    def progress(self) -> AsyncIterator[Progress]:
        """The batch now and after each change, until it is over and what it has sent to others has arrived.

        For that it is waited only as long as something arrives. A broken connection is opened again; since
        counts are cumulative, nothing is lost by it. Raises UnreachableError when the server stays away.
        """

    async def wait(self) -> Progress:
        """The batch once it is over."""
        async for _ in self.progress():
            pass
        return self.latest

    @abstractmethod
    async def refresh(self) -> Progress:
        """The batch as it is now."""

    async def pause(self) -> Progress:
        """Hold it; what it has done stays done."""
        return await self._control("pause")

    async def resume(self) -> Progress:
        """Let it go on."""
        return await self._control("resume")

    async def abort(self) -> Progress:
        """End it: what it has done stays done, all else never had it. Also ends the grace of one that is over."""
        return await self._control("abort")

    @abstractmethod
    async def retry(self) -> "Batch":
        """Do again what has failed of it, as another batch; asked for twice, it is the same one."""

    @abstractmethod
    async def set_rate(self, per_s: int) -> Progress:
        """Let it act on so many invocations a second at most; 0 lifts the limit."""

    @abstractmethod
    async def _control(self, verb: Verb) -> Progress: ...


class Batches(Protocol):
    """The way to the coordinator that a client has."""

    async def submit(self, request: BatchRequest) -> Batch:
        """See `Client.submit`."""

    async def batch(self, id: str) -> Batch:
        """See `Client.batch`."""

    async def close(self) -> None:
        """Disconnect."""
