"""What the owner of a log and the processes that use it through a socket say to each other.

A frame is its length, four bytes, big-endian, and one message in msgpack. Both ends are processes of one start
of one build, so nothing here is versioned. A length over the limit, or a message that does not decode, ends
the connection: there is no telling where the next frame begins.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

import msgspec

from coordinator.logs.port import SUBMIT_BYTES_MAX, SUBMIT_ENTRIES_MAX, Entry, Stream

# Besides its value an entry takes a stream's name and three short heads; 32 bytes are more than that.
FRAME_BYTES_MAX = SUBMIT_BYTES_MAX + 32 * SUBMIT_ENTRIES_MAX + 1_024
RECEIVE_BUFFER_BYTES = 256 << 10


class Message(msgspec.Struct, array_like=True):
    pass


# From a process that uses the log.


class Hello(Message, tag=1):
    """The first message: the log's file is open here."""


class Append(Message, tag=2):
    number: int  # of the call, in this direction of this connection
    entries: list[Entry]


class Trim(Message, tag=3):
    number: int
    stream: Stream
    partition: int
    below: int


class Follow(Message, tag=4):
    """From now on tell where this partition ends, at once and whenever it has moved."""

    stream: Stream
    partition: int


# From the owner.


class Welcome(Message, tag=1):
    identity: str


class Done(Message, tag=2):
    number: int
    positions: list[int]


class Failed(Message, tag=3):
    number: int
    text: str


class Moved(Message, tag=4):
    ends: list[tuple[Stream, int, int]]  # stream, partition, end


Request = Hello | Append | Trim | Follow
Answer = Welcome | Done | Failed | Moved

REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)

_encoder = msgspec.msgpack.Encoder()

T = TypeVar("T")


def frame(message: Message) -> bytearray:
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    buffer[:4] = (len(buffer) - 4).to_bytes(4, "big")
    return buffer


def receive(sock: socket.socket, decoder: msgspec.msgpack.Decoder[T]) -> Iterator[T]:
    """The messages that come in, until the other end is gone, this one is shut down, or a frame is wrong."""
    try:
        with sock.makefile("rb", buffering=RECEIVE_BUFFER_BYTES) as incoming:
            while len(head := incoming.read(4)) == 4:
                length = int.from_bytes(head, "big")
                if length > FRAME_BYTES_MAX or len(body := incoming.read(length)) < length:
                    return
                yield decoder.decode(body)
    except (OSError, msgspec.DecodeError):
        return


def shut_down(sock: socket.socket) -> None:
    """End the connection for both ends; who waits in `receive` sees its end."""
    with suppress(OSError):  # it has ended already
        sock.shutdown(socket.SHUT_RDWR)
