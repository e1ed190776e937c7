"""Payloads as stores keep them: copies, facts of the dump, and the columns of a file.

Most invocations have no lineage worth a column (not called by another, never restarted, not imported), so its
fields share one that is NULL then.
"""

from typing import Any, Final

import msgspec

from coordinator.model.invocation import Payload

EMPTY: Final = Payload()
COLUMNS: Final = "input, headers, output, lineage"

Columns = tuple[bytes | None, bytes | None, bytes | None, bytes | None]
Lineage = tuple[int, str | None, str | None, bool]
_NO_LINEAGE: Final = (EMPTY.depth, EMPTY.restarted_from, EMPTY.restarted_as, EMPTY.imported)
_to_headers: Final = msgspec.msgpack.Decoder(dict[str, str]).decode
_to_lineage: Final = msgspec.msgpack.Decoder(Lineage).decode


def copied(payload: Payload) -> Payload:
    """Another object with the same content, headers too."""
    return msgspec.structs.replace(payload, headers=dict(payload.headers))


def facts(payload: Payload) -> tuple[Any, ...]:
    """Its fields as the canonical dump has them."""
    return payload.input, tuple(sorted(payload.headers.items())), payload.output, *_lineage(payload)


def to_columns(payload: Payload) -> Columns:
    headers = msgspec.msgpack.encode(payload.headers) if payload.headers else None
    lineage = _lineage(payload)
    packed = msgspec.msgpack.encode(lineage) if lineage != _NO_LINEAGE else None
    return payload.input, headers, payload.output, packed


def from_columns(input: bytes | None, headers: bytes | None, output: bytes | None, lineage: bytes | None) -> Payload:
    decoded = {} if headers is None else _to_headers(headers)
    if lineage is None:
        return Payload(input, decoded, output)
    return Payload(input, decoded, output, *_to_lineage(lineage))


def _lineage(payload: Payload) -> Lineage:
    return payload.depth, payload.restarted_from, payload.restarted_as, payload.imported
