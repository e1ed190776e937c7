"""Records of `requests` and `progress`, decoded: what the machine folds, and what else stands there.

What cannot be read is the same on every replay; the size is looked at before the decoder sees the record.
"""

from typing import Final

from coordinator.model import limits, messages
from coordinator.model.messages import Register, RequestState
from coordinator.requests.machine import Event

_BYTES_MAX: Final = {"requests": limits.REQUEST_RECORD_BYTES_MAX, "progress": limits.RECORD_BYTES_MAX}
_DECODE: Final = {"requests": messages.decode_request, "progress": messages.decode_progress}


class UnreadableError(Exception):
    """A record is no message of its stream; the text says why."""


def message(stream: str, value: bytes) -> Event | Register | RequestState:
    """What a record of `requests` or `progress` says. Raises UnreadableError."""
    if len(value) > _BYTES_MAX[stream]:
        raise UnreadableError(f"it has {len(value)} bytes; a record of {stream} may have {_BYTES_MAX[stream]}")
    try:
        found: Event | Register | RequestState = _DECODE[stream](value)
    except messages.UNREADABLE:
        raise UnreadableError(_why(stream, value)) from None
    if found.v > limits.SCHEMA_LEVEL:
        raise UnreadableError(f"its schema version {found.v} is above {limits.SCHEMA_LEVEL}, which this build knows")
    return found


def _why(stream: str, value: bytes) -> str:
    head = messages.read_head(value)
    if head is None:
        return "it is not a message: a msgpack map with kind and v is expected"
    kind, version = head
    if version > limits.SCHEMA_LEVEL:
        return f"its schema version {version} is above {limits.SCHEMA_LEVEL}, which this build knows"
    return f"it is not a message of kind {kind} as the schema of version {version} has it on {stream}"
