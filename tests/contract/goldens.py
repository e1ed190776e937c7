"""The generated files as any other program finds them: read from disk, by stream."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from coordinator.contract import streams
from coordinator.logs.port import Stream
from coordinator.model import messages

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
GOLDEN = SCHEMAS / "golden"

DECODERS = {
    Stream.REQUESTS: messages.decode_request,
    Stream.COMMANDS: messages.decode_command,
    Stream.PROGRESS: messages.decode_progress,
    Stream.DELIVERIES: messages.decode_delivery,
    Stream.DEAD_LETTERS: messages.decode_dead_letter,
}
STREAM_OF = {kind.__name__: channel.stream for channel in streams.CHANNELS for kind in channel.kinds}
CASES = sorted(path.stem for path in GOLDEN.glob("*.msgpack"))


def golden(case: str) -> bytes:
    return (GOLDEN / f"{case}.msgpack").read_bytes()


def golden_json(case: str) -> Any:
    return json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8"))


def kind_of(case: str) -> str:
    return case.partition("-")[0]


def decoder_of(case: str) -> Any:
    return DECODERS[STREAM_OF[kind_of(case)]]


def as_json_holds_it(value: Any) -> Any:
    """Written a second time, so that the generator's own rendering is not what it is compared with."""
    match value:
        case bytes():
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        case dict():
            return {str(key): as_json_holds_it(inner) for key, inner in value.items()}
        case list():
            return [as_json_holds_it(inner) for inner in value]
        case str() | int() | None:
            return value
        case _:
            raise AssertionError(f"the contract has no {type(value)}")
