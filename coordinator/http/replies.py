"""What a route answers with: bytes that are ready to be sent, as an ASGI application of their own.

Litestar sends what is one already without looking at it, which is the shortest way through it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

JSON: Final = "application/json"
_NO_CONTENT: Final = 204

encode_json: Final = msgspec.json.Encoder().encode


class Reply:
    """A whole answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes, *, media: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.headers: list[tuple[bytes, bytes]] = []
        if status != _NO_CONTENT:
            self.headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
        if headers:
            self.headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def to_asgi_response(self, **kwargs: Any) -> "Reply":
        """What Litestar asks of the answer to an exception."""
        return self


def json_reply(status: int, value: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
    """Anything that msgspec encodes."""
    return Reply(status, encode_json(value), headers=headers)


class StreamReply(Reply):
    """An answer of unknown length. Stops asking for chunks when the client is gone.

    When a chunk cannot be had the connection is cut, so that half an answer never passes for a whole one.
    """

    __slots__ = ("_chunks", "_stream")

    def __init__(self, chunks: AsyncIterator[bytes], *, media: str, headers: Mapping[str, str] | None = None) -> None:
        self._chunks = chunks
        self._stream = ASGIStreamingResponse(iterator=chunks, media_type=media, headers=dict(headers or {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it chunk by chunk."""
        try:
            await self._stream(scope, receive, send)
        finally:
            # When the client goes while a chunk is being sent, nobody has told its source.
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()
