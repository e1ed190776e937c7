"""HTTP for the live traffic, and no more of it than one route needs.

A measuring instrument must not weigh more than what it measures: with the library's client a send took this side
2 ms of a core, several times what it takes the server, and on two cores the latencies were those of the sender.
"""

import asyncio
import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_IDLE_S: Final = 2.0
"""A connection that was idle for longer is not used again: the server closes them after some seconds, perhaps just
while something is sent, and whether that was taken could not be told."""


class NotAnsweredError(Exception):
    """The connection broke, or what came back is no answer."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float


class Sender:
    """As many connections to one server as are needed at once, kept open in between."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises NotAnsweredError."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            reader, writer = await self._connection()
            writer.write(head.encode() + body)
            status, length = _read_head(await reader.readuntil(_END))
            answer = await reader.readexactly(length)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise NotAnsweredError(str(error) or type(error).__name__) from error
        self._idle.append(_Connection(reader, writer, time.monotonic()))
        return status, answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The one that was used last, if that was not long ago."""
        if self._idle and time.monotonic() - self._idle[-1].idle_since < _IDLE_S:
            reader, writer, _ = self._idle.pop()
            return reader, writer
        self.close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """Close the connections that are idle."""
        for one in self._idle:
            one.writer.close()
        self._idle.clear()


def _read_head(head: bytes) -> tuple[int, int]:
    """Status, and how long the body is."""
    status, *fields = head.split(b"\r\n")
    lengths = [int(field[len(_LENGTH) :]) for field in fields if field.lower().startswith(_LENGTH)]
    if len(lengths) != 1:
        raise ValueError("an answer without its length")
    return int(status.split(b" ")[1]), lengths[0]
