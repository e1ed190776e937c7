"""Golden bytes: messages as they stand on the wire, what a plain msgpack decoder makes of them, and a dump.

The JSON is made with the `msgpack` package, which knows nothing of the message types.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import msgpack

from coordinator.model import ids

ROUTED_KEYS: Final = ("cart55", "Zoë", "", "Greeter/greet/order-4711")
ROUTED_COUNTS: Final = (1, 4, 12, 256)


def unpack(data: bytes) -> Any:
    """The value of some msgpack, as any language's package would give it."""
    return msgpack.unpackb(data, strict_map_key=False)


def rendering(value: Any) -> Any:
    """The value as JSON can hold it: bytes as `{"$bytes": base64}`, keys of maps as text."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {str(key): rendering(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rendering(item) for item in value]
    return value


def rendered(data: bytes) -> Any:
    """The rendering of some msgpack."""
    return rendering(unpack(data))


def as_json(value: Any) -> bytes:
    """The text of a JSON file: indented, ending in a newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


# -- a dump that explains the bytes --------------------------------------------------------------------------


def dump(data: bytes) -> str:
    """The bytes in hex, an entry of the map a line, with what they mean beside them."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    lines = list(_lines(data, unpacker, "", ""))
    width = max(len(code) for code, _ in lines) + 2
    return "\n".join(f"{code:<{width}}{comment}" for code, comment in lines) + "\n"


def _lines(data: bytes, unpacker: Any, before: str, name: str) -> Iterator[tuple[str, str]]:
    """Bytes and meaning of the next value, behind those of its key; a map's entries follow, indented."""
    start = unpacker.tell()
    if not _is_map(data[start]):
        shown = json.dumps(rendering(unpacker.unpack()), ensure_ascii=False)
        yield f"{before}{data[start : unpacker.tell()].hex()}", f"{name}{shown}"
        return
    count = unpacker.read_map_header()
    yield f"{before}{data[start : unpacker.tell()].hex()}", f"{name}a map of {count}"
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    for _ in range(count):
        start = unpacker.tell()
        key = unpacker.unpack()
        yield from _lines(data, unpacker, f"{indent}{data[start : unpacker.tell()].hex()} ", f"{indent}{key}: ")


def _is_map(first: int) -> bool:
    return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)


# -- routing -------------------------------------------------------------------------------------------------


def routing() -> dict[str, Any]:
    """Keys and ids with the partition key and the partitions that follow from them."""
    keyed = [(key, ids.derived_id("routing", number, key)) for number, key in enumerate(ROUTED_KEYS)]
    edges = [(None, ids.invocation_id(partition_key, 1)) for partition_key in (0, 1 << 63, (1 << 64) - 1)]
    return {
        "about": "partition = partition_key * P >> 64, in integers of 128 bits",
        "cases": [
            {
                **({} if key is None else {"key": key}),
                "id": id,
                "partition_key": str(ids.partition_key_of(id)),
                "partition_of": {str(count): ids.partition_of(id, count) for count in ROUTED_COUNTS},
            }
            for key, id in [*keyed, *edges]
        ],
    }
