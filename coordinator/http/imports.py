"""The route that takes over invocations from a file, line by line; the file is never whole in memory."""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from coordinator.http.contract import Body, Operation, Parameter, Success, gateway_of, route
from coordinator.http.problems import UnsupportedEncodingError
from coordinator.http.reading import AnyRequest, ClientGoneError, header
from coordinator.http.replies import Reply, json_reply
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.runtime.imports import ImportReport

LINE_BYTES_MAX: Final = limits.RECORD_BYTES_MAX
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
"""zlib's word for: with the largest window, in gzip's format."""
_UNPACKED_BYTES: Final = 256 * 1024
"""Of one step, so that a file that unpacks to a million times its size has no effect but time."""


@route(
    "POST",
    "/import",
    Operation(
        id="importInvocations",
        summary="Take over invocations from Restate; those that are there are left alone",
        parameters=(Parameter("Content-Encoding", "gzip, if it is; it is noticed without, too", where="header"),),
        body=Body("One JSON object a line, in the columns of sys_invocation", media="application/x-ndjson"),
        answers={200: Success("All that could be taken is applied; bad lines are in the report", ImportReport)},
        problems=(400, 415, 503),
    ),
)
async def import_invocations(request: AnyRequest) -> Reply:
    """Import the body."""
    encoding = header(request.scope, b"content-encoding") or "identity"
    if encoding.lower() not in ("identity", "gzip", "x-gzip"):
        message = f"content-encoding {encoding!r} is not understood; send gzip, or nothing packed"
        raise UnsupportedEncodingError(message, field="content-encoding")
    rows = lines(unpacked(_chunks(request)))
    return json_reply(200, await gateway_of(request).import_rows(rows))


async def _chunks(request: AnyRequest) -> AsyncIterator[bytes]:
    """The body as it arrives."""
    more = True
    while more:
        event = await request.receive()
        if event["type"] != "http.request":
            raise ClientGoneError("the client hung up")
        more = event.get("more_body", False)
        if chunk := event.get("body", b""):
            yield chunk


async def unpacked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, unpacked if it begins as gzip does, which no line of JSON can.

    Raises CallerError when it is gzip and damaged; what came before that is given first.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= len(_GZIP_MAGIC):
            break
    if not head.startswith(_GZIP_MAGIC):
        yield head
        async for chunk in chunks:
            yield chunk
        return
    gzip = _Gunzip()
    for piece in gzip.feed(head):
        yield piece
    async for chunk in chunks:
        for piece in gzip.feed(chunk):
            yield piece
    gzip.end()


class _Gunzip:
    """A gzip file piece by piece; several in a row, as `cat` makes them, are one."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._begun = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What this much more of the file unpacks to, in bounded pieces."""
        while True:
            if not self._begun:
                packed = packed.lstrip(b"\0")  # padding of tapes, which gzip overlooks as well
                if not packed:
                    return
            self._begun = True
            try:
                piece = self._member.decompress(packed, _UNPACKED_BYTES)
            except zlib.error as error:
                raise CallerError(f"the body is damaged gzip ({error}); {_TAKEN}") from None
            if piece:
                yield piece
            packed = self._member.unconsumed_tail
            if self._member.eof:
                packed = self._member.unused_data
                self._member, self._begun = zlib.decompressobj(_GZIP_WINDOW), False
            elif not packed and len(piece) < _UNPACKED_BYTES:
                return

    def end(self) -> None:
        """Nothing more comes."""
        if self._begun:
            raise CallerError(f"the body is gzip that ends before its end; {_TAKEN}")


_TAKEN: Final = "lines before that are imported, and left alone when it is sent again"


async def lines(chunks: AsyncIterator[bytes], bytes_max: int = LINE_BYTES_MAX) -> AsyncIterator[bytes]:
    """The lines, without their ends. Of one over `bytes_max` only one byte more is given, enough to see that."""
    tail = b""
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield (tail + line)[: bytes_max + 1] if tail else line[: bytes_max + 1]
            tail = b""
        tail = (tail + rest)[: bytes_max + 1]
    if tail:
        yield tail


ROUTES: Final[list[Any]] = [import_invocations]
