"""Batches over HTTP: the server knows them, and is asked."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final
from urllib.parse import quote

import httpx

from coordinator.client.batch import Batch, Verb
from coordinator.client.errors import UnreachableError
from coordinator.client.requests import BatchRequest, named
from coordinator.client.transport import Backoff, Transport, decode, decoded
from coordinator.client.views import Progress

_REOPEN_S: Final = 0.5
"""Pause before a stream is opened again that the server has ended, so that it is not asked in a tight loop."""
_SILENCE_S: Final = 30.0
"""A stream that says nothing for so long is opened again, in case it is the connection and not the batch."""


class HttpBatches:
    """Those of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def submit(self, request: BatchRequest) -> "HttpBatch":
        """See `Client.submit`."""
        response = await self._transport.call("POST", "/batches", body=named(request).to_json(), repeatable=True)
        return HttpBatch(self._transport, decoded(response, Progress))

    async def batch(self, id: str) -> "HttpBatch":
        """See `Client.batch`."""
        batch = HttpBatch(self._transport, Progress(id=id))
        await batch.refresh()
        return batch

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


class HttpBatch(Batch):
    """One of them."""

    def __init__(self, transport: Transport, latest: Progress) -> None:
        super().__init__(latest)
        self._transport = transport

    async def progress(self) -> AsyncIterator[Progress]:
        """See `Batch.progress`."""
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

    async def refresh(self) -> Progress:
        """The batch as it is now."""
        return self._take(await self._transport.call("GET", _path(self.id), repeatable=True))

    async def retry(self) -> Batch:
        """See `Batch.retry`."""
        response = await self._transport.call("POST", f"{_path(self.id)}/retry", repeatable=True)
        return HttpBatch(self._transport, decoded(response, Progress))

    async def set_rate(self, per_s: int) -> Progress:
        """See `Batch.set_rate`."""
        body = {"rate": per_s}
        return self._take(await self._transport.call("PATCH", _path(self.id), body=body, repeatable=True))

    async def _control(self, verb: Verb) -> Progress:
        return self._take(await self._transport.call("POST", f"{_path(self.id)}/{verb}", repeatable=True))

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
