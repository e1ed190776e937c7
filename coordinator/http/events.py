"""Server-Sent Events: a stream of states as `text/event-stream`, kept alive while nothing changes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, NamedTuple, TypeVar

MEDIA: Final = "text/event-stream"
HEADERS: Final = {
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would collect a stream before it passes anything on
}
KEEP_ALIVE_S: Final = 10.0
"""Silence after which a comment is sent: proxies cut what is silent for half a minute or more."""
_COMMENT: Final = b": keep-alive\n\n"

T = TypeVar("T")


class Event(NamedTuple):
    """One event. `data` is JSON of one line, as it is encoded here."""

    id: str
    data: bytes


async def frames(
    states: AsyncIterator[T], event: Callable[[T], Event], *, keep_alive_s: float = KEEP_ALIVE_S
) -> AsyncIterator[bytes]:
    """Each state as an event, and a comment whenever none has come for `keep_alive_s`."""
    awaited: asyncio.Future[Any] | None = None
    try:
        while True:
            if awaited is None:
                awaited = asyncio.ensure_future(anext(states))
            done, _ = await asyncio.wait((awaited,), timeout=keep_alive_s)
            if not done:
                yield _COMMENT
                continue
            finished, awaited = awaited, None
            try:
                id, data = event(finished.result())
            except StopAsyncIteration:
                return
            yield b"id: %b\ndata: %b\n\n" % (id.encode(), data)
    finally:
        # The client may be gone at any point. Whoever waits inside of `states` is ended by cancelling the wait.
        if awaited is not None:
            awaited.cancel()
        elif isinstance(states, AsyncGenerator):
            await states.aclose()
