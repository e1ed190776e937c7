"""Golden bytes: what others decode is what we meant, and what we encode stays what it is."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest

from coordinator.contract import streams
from coordinator.model import messages
from tests.contract.goldens import CASES, as_json_holds_it, decoder_of, golden, golden_json

KINDS = {kind.__name__: kind for kind in streams.KINDS}
FULL = [case for case in CASES if case.endswith("-full")]
MINIMAL = [case for case in CASES if case.endswith("-minimal")]


@pytest.mark.parametrize("case", CASES)
def test_a_plain_msgpack_decoder_gives_the_golden_json(case: str) -> None:
    assert as_json_holds_it(plain(case)) == golden_json(case)


@pytest.mark.parametrize("case", CASES)
def test_our_decoder_reads_the_bytes_and_our_encoder_writes_them_again(case: str) -> None:
    message = decoder_of(case)(golden(case))
    assert type(message).__name__ == case.partition("-")[0]
    assert messages.encode(message) == golden(case)


@pytest.mark.parametrize("case", FULL)
def test_a_full_case_has_every_field_and_none_at_its_default(case: str) -> None:
    kind = KINDS[case.removesuffix("-full")]
    assert set(plain(case)) == {"kind", *kind.__struct_fields__}


@pytest.mark.parametrize("case", MINIMAL)
def test_a_minimal_case_has_only_what_it_must_have(case: str) -> None:
    kind = KINDS[case.removesuffix("-minimal")]
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    assert set(plain(case)) == {"kind", "v", *required}


@pytest.mark.parametrize("case", CASES)
def test_another_codec_may_order_and_size_things_its_own_way(case: str) -> None:
    """Entries the other way round (so `kind` last), headers of the other package, and wide integers."""
    backwards = dict(reversed(plain(case).items()))
    assert decoder_of(case)(msgpack.packb(backwards)) == decoder_of(case)(golden(case))
    assert decoder_of(case)(wide(backwards)) == decoder_of(case)(golden(case))


@pytest.mark.parametrize("case", MINIMAL)
def test_fields_at_their_default_may_be_written_out(case: str) -> None:
    kind = KINDS[case.removesuffix("-minimal")]
    message = decoder_of(case)(golden(case))
    written_out = {"kind": streams.number(kind)} | msgspec.to_builtins(
        {name: getattr(message, name) for name in kind.__struct_fields__}, builtin_types=(bytes,)
    )
    assert decoder_of(case)(msgpack.packb(written_out)) == message


@pytest.mark.parametrize("case", MINIMAL)
def test_a_field_that_the_level_does_not_have_is_refused(case: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoder_of(case)(msgpack.packb(plain(case) | {"misspelt": 1}))


def plain(case: str) -> Any:
    return msgpack.unpackb(golden(case), strict_map_key=False)


def wide(value: Any) -> bytes:
    """The value in the widest headers and integers that msgpack has."""
    match value:
        case bool() | None:
            return bytes(msgpack.packb(value))
        case int():
            return b"\xd3" + value.to_bytes(8, "big", signed=True)
        case str():
            return b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
        case bytes():
            return b"\xc6" + len(value).to_bytes(4, "big") + value
        case list():
            return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(wide, value))
        case dict():
            entries = (wide(key) + wide(inner) for key, inner in value.items())
            return b"\xdf" + len(value).to_bytes(4, "big") + b"".join(entries)
        case _:
            raise AssertionError(f"the contract has no {type(value)}")
