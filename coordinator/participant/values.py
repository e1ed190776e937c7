"""What handlers pass in and get back, as bytes, durations and targets of the model.

A value that cannot be right is a TerminalError, because the same handler with the same input would pass it again.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import target_parts
from coordinator.model.journal import Call
from coordinator.model.times import END_US, parse_duration
from coordinator.participant.errors import TerminalError

Duration = str | float | timedelta
"""`"1h 30m"`, seconds, or a timedelta."""

_HEADER_BYTES: Final = 10
"""At most five before each of a header's two texts."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def encoded(value: Any, *, raw: bool, what: str) -> bytes:
    """The value as JSON, or the bytes that it is.

    Raises TerminalError when it is longer than a record can take, TypeError when it has no JSON or is no bytes.
    """
    if not raw:
        data = _json(value, what)
    elif isinstance(value, bytes):
        data = value
    else:
        raise TypeError(f"{what} is {type(value).__name__} and must be bytes, because of raw=True")
    if len(data) > limits.CALL_BYTES_MAX:
        raise TerminalError(
            f"{what} has {len(data)} bytes and {limits.CALL_BYTES_MAX} are allowed; keep what is larger elsewhere, "
            "and pass where it is"
        )
    return data


def _json(value: Any, what: str) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"{what} has no JSON: {error}") from error


def decoded(data: bytes | None, *, raw: bool, what: str) -> Any:
    """The other way. Nothing is None, with `raw` no bytes. Raises TerminalError when it is no JSON."""
    if raw:
        return data or b""
    if data is None:
        return None
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TerminalError(f"{what} is no JSON ({error}); with raw=True it is taken as bytes") from None


def duration_us(duration: Duration) -> int:
    """Microseconds of it. Raises ValueError when it is none."""
    if isinstance(duration, str):
        try:
            return parse_duration(duration)
        except CallerError as error:
            raise ValueError(str(error)) from None
    span = duration // timedelta(microseconds=1) if isinstance(duration, timedelta) else duration * limits.SECOND_US
    if not 0 <= span < END_US:  # this refuses what is no number, too
        raise ValueError(f"{duration!r} is no duration between nothing and eight thousand years")
    return int(span)


def call_of(
    target: str,
    input: Any,
    *,
    headers: Mapping[str, str] | None,
    idempotency_key: str | None,
    raw: bool,
    delay_us: int = 0,
) -> Call:
    """A call to `Service/handler` or `Object/key/handler`. Raises TerminalError when no partition would take it."""
    service, key, handler = _target(target)
    if len(idempotency_key or "") > limits.KEY_CHARS_MAX:
        raise TerminalError(f"an idempotency key may have {limits.KEY_CHARS_MAX} characters")
    data = None if input is None else encoded(input, raw=raw, what=f"the input of {target}")
    kept = dict(headers or {})
    size = len(data or b"") + sum(len(n.encode()) + len(v.encode()) + _HEADER_BYTES for n, v in kept.items())
    if size > limits.CALL_BYTES_MAX:
        raise TerminalError(f"input and headers of {target} have {size} bytes and {limits.CALL_BYTES_MAX} are allowed")
    return Call(
        service=service,
        handler=handler,
        key=key,
        # Whether it is a virtual object or a workflow, the server knows, which has the registry.
        type=0 if key is None else 1,
        input=data,
        headers=kept,
        delay=delay_us,
        idempotency_key=idempotency_key,
    )


def _target(target: str) -> tuple[str, str | None, str]:
    try:
        service, second, handler = target_parts(target)
    except CallerError as error:
        raise TerminalError(str(error)) from None
    if second is None:
        raise TerminalError(f"{target!r} names no handler; write Service/handler or Object/key/handler")
    key = None if handler is None else second
    name = handler or second
    if len(service) > limits.NAME_CHARS_MAX or len(name) > limits.NAME_CHARS_MAX:
        raise TerminalError(f"service and handler of a target may have {limits.NAME_CHARS_MAX} characters each")
    if len(key or "") > limits.KEY_CHARS_MAX:
        raise TerminalError(f"the key of a target may have {limits.KEY_CHARS_MAX} characters")
    return service, key, name
