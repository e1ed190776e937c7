"""Records as events of the machine, and back. What cannot be read becomes a dead letter."""

from coordinator.logs.port import Entry, Record, Stream
from coordinator.model import limits, messages
from coordinator.model.messages import DeadLetter, Register, RequestState
from coordinator.requests.effects import Ask, Effect, Send
from coordinator.requests.machine import Event
from coordinator.requests.records import message


def event(stream: Stream, value: bytes) -> Event | Register | None:
    """What a record tells the machine or the registry; None for the coordinator's own words. Raises UnreadableError."""
    found = message(stream, value)
    return None if isinstance(found, RequestState) else found


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
