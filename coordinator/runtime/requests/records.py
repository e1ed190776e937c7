"""Records of the coordinator's streams: as events of the machine, and back.

What cannot be read becomes a dead letter, the same on every replay; the size is looked at before the decoder
sees the record.
"""

from typing import Final

from coordinator.logs.port import Entry, Record, Stream
from coordinator.model import limits, messages
from coordinator.model.messages import DeadLetter, Register, RequestState
from coordinator.requests.effects import Ask, Effect, Send
from coordinator.requests.machine import Event

_BYTES_MAX: Final = {Stream.REQUESTS: limits.REQUEST_RECORD_BYTES_MAX, Stream.PROGRESS: limits.RECORD_BYTES_MAX}
_DECODE: Final = {Stream.REQUESTS: messages.decode_request, Stream.PROGRESS: messages.decode_progress}


class UnreadableError(Exception):
    """A record is no message of its stream; the text says why."""


def event(stream: Stream, value: bytes) -> Event | Register | None:
    """What a record tells the machine or the registry; None for the coordinator's own words. Raises UnreadableError."""
    if len(value) > _BYTES_MAX[stream]:
        raise UnreadableError(f"it has {len(value)} bytes; a record of {stream} may have {_BYTES_MAX[stream]}")
    try:
        message: Event | Register | RequestState = _DECODE[stream](value)
    except messages.UNREADABLE:
        raise UnreadableError(_why(stream, value)) from None
    if message.v > limits.SCHEMA_LEVEL:
        raise UnreadableError(f"its schema version {message.v} is above {limits.SCHEMA_LEVEL}, which this build knows")
    return None if isinstance(message, RequestState) else message


def dead_letter(stream: Stream, record: Record, reason: str) -> Entry:
    """The record as an operator will find it."""
    letter = DeadLetter(
        stream=stream,
        partition=0,
        position=record.position,
        reason=reason,
        value=record.value[: limits.RECORD_BYTES_MAX],
    )
    return Entry(Stream.DEAD_LETTERS, 0, messages.encode(letter))


def entry(effect: Effect) -> Entry:
    """An effect as it is appended."""
    if isinstance(effect, Send):
        return Entry(Stream.COMMANDS, effect.partition, messages.encode(effect.command))
    if isinstance(effect, Ask):
        return Entry(Stream.REQUESTS, 0, messages.encode(effect.decide))
    return Entry(Stream.PROGRESS, 0, messages.encode(effect.state))


def _why(stream: Stream, value: bytes) -> str:
    head = messages.read_head(value)
    if head is None:
        return "it is not a message: a msgpack map with kind and v is expected"
    kind, version = head
    if version > limits.SCHEMA_LEVEL:
        return f"its schema version {version} is above {limits.SCHEMA_LEVEL}, which this build knows"
    return f"it is not a message of kind {kind} as the schema of version {version} has it on {stream}"
