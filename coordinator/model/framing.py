"""Frames: messages one behind the other in a stream or a body, each behind its length in four bytes, big-endian.

A frame of length 0 carries nothing. Between a server and its participants it says that the other end still lives.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from coordinator.model import limits
from coordinator.model.errors import CallerError

HEAD_BYTES: Final = 4
EMPTY: Final = bytes(HEAD_BYTES)
"""A frame that carries nothing."""


def frame(value: bytes) -> bytes:
    """One message as it is sent."""
    return len(value).to_bytes(HEAD_BYTES, "big") + value


def frames(values: Iterable[bytes]) -> bytes:
    """Messages as one body."""
    return b"".join([frame(value) for value in values])


def unframed(body: bytes) -> list[bytes]:
    """The messages of a whole body, without the empty ones. Raises CallerError when it ends inside of one."""
    splitter = Splitter()
    values = list(splitter.feed(body))
    if splitter.pending:
        raise CallerError("the body ends inside of a frame; each message stands behind its length, 4 bytes, big-endian")
    return values


class Splitter:
    """Takes a stream apart as it comes in."""

    def __init__(self, bytes_max: int = limits.LOG_VALUE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._left = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._left)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The messages that this chunk completes, without the empty ones.

        Raises CallerError for one that is longer than any message: there is no telling where the next begins.
        """
        left = self._left
        left += chunk
        at = 0
        while len(left) - at >= HEAD_BYTES:
            length = int.from_bytes(left[at : at + HEAD_BYTES], "big")
            if length > self._bytes_max:
                raise CallerError(f"a frame of {length} bytes; a message may have {self._bytes_max}")
            end = at + HEAD_BYTES + length
            if end > len(left):
                break
            if length:
                yield bytes(left[at + HEAD_BYTES : end])
            at = end
        del left[:at]
