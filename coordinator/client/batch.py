"""A batch that was submitted: following it and changing it."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final
from urllib.parse import quote

import httpx

from coordinator.client.errors import UnreachableError
from coordinator.client.transport import Backoff, Transport, decode, decoded
from coordinator.client.views import Progress

_REOPEN_S: Final = 0.5
"""Pause before a stream is opened again that the server has ended, so that it is not asked in a tight loop."""
_SILENCE_S: Final = 30.0
"""A stream that says nothing for so long is opened again, in case it is the connection and not the batch."""


class Batch:
    """A batch on the server, running or over."""

    def __init__(self, transport: Transport, latest: Progress) -> None:
        self._transport = transport
        self.latest = latest
        """The newest that was heard of it."""

    @property
    def id(self) -> str:
        """The request id."""
        return self.latest.id

    async def progress(self) -> AsyncIterator[Progress]:
        """The batch now and after each change, until it is over and what it has sent to others has arrived.

        For that the server waits only as long as something arrives. A broken connection is opened again; since
        counts are cumulative, nothing is lost by it. Raises UnreachableError when the server stays away.
        """
        path = f"{_path(self.id)}/events"
        backoff = Backoff(self._transport.patience_s)
        previous: Progress | None = None
        while True:
            try:
                async with self._transport.stream(path, accept="text/event-stream", silence_s=_SILENCE_S) as response:
                    async for data in event_data(response.aiter_lines()):
                        backoff.succeeded()
                        self.latest = decode(data, Progress)
                        if self.latest != previous:
                            yield self.latest
                        if self.latest.over and self.latest.settled:
                            return
                        previous = self.latest
                if self.latest.over:
                    return
                await backoff.pause(_REOPEN_S)
            except UnreachableError:
                if not backoff.failed():
                    raise
                await backoff.pause()

    async def wait(self) -> Progress:
        """The batch once it is over."""
        async for _ in self.progress():
            pass
        return self.latest

    async def refresh(self) -> Progress:
        """The batch as it is now."""
        return self._take(await self._transport.call("GET", _path(self.id), repeatable=True))

    async def pause(self) -> Progress:
        """Hold it; what it has done stays done."""
        return await self._control("pause")

    async def resume(self) -> Progress:
        """Let it go on."""
        return await self._control("resume")

    async def abort(self) -> Progress:
        """End it: what it has done stays done, all else never had it. Also ends the grace of one that is over."""
        return await self._control("abort")

    async def retry(self) -> "Batch":
        """Do again what has failed of it, as another batch; asked for twice, it is the same one."""
        response = await self._transport.call("POST", f"{_path(self.id)}/retry", repeatable=True)
        return Batch(self._transport, decoded(response, Progress))

    async def set_rate(self, per_s: int) -> Progress:
        """Let it act on so many invocations a second at most; 0 lifts the limit."""
        body = {"rate": per_s}
        return self._take(await self._transport.call("PATCH", _path(self.id), body=body, repeatable=True))

    async def _control(self, what: str) -> Progress:
        return self._take(await self._transport.call("POST", f"{_path(self.id)}/{what}", repeatable=True))

    def _take(self, response: httpx.Response) -> Progress:
        self.latest = decoded(response, Progress)
        return self.latest


async def event_data(lines: AsyncIterable[str]) -> AsyncIterator[str]:
    """The data of each event in a stream of Server-Sent Events; names, ids and comments are of no use here."""
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _path(id: str) -> str:
    return f"/batches/{quote(id, safe='')}"
