"""Importing: lines out of chunks, packed or not, and nothing of the file kept but what is under way."""

import asyncio
import gzip
import random
from collections.abc import AsyncIterator

import pytest

from coordinator.http import imports
from coordinator.http.imports import lines, unpacked
from coordinator.model.errors import CallerError
from tests.http.surface import Surface, assert_problem

ROW = (
    b'{"id": "inv_1iIfZRrD7NCp75xhmoMGjbaSJiiz5gNfG1", "target_service_name": "Greeter",'
    b' "target_handler_name": "greet", "target_service_ty": "service", "created_at": "2026-11-21T03:50:45.201Z",'
    b' "modified_at": "2026-11-21T03:50:47.400Z", "status": "suspended"}'
)
FILE = b"\n".join([ROW, b"not json", b"", ROW])


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def split(data: bytes, size: int, bytes_max: int = 1_000) -> list[bytes]:
    async def scenario() -> list[bytes]:
        return [line async for line in lines(unpacked(chunks(data, size)), bytes_max)]

    return asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
@pytest.mark.parametrize("data", [b"", b"a", b"a\n", b"a\nb", b"\n\na\n", b"a\r\nb\r\n"])
def test_lines_do_not_depend_on_how_the_body_arrives(data: bytes, size: int) -> None:
    expected = data.split(b"\n")
    assert split(data, size) == (expected[:-1] if expected[-1] == b"" else expected)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_line_over_its_limit_is_cut_and_the_next_is_whole(size: int) -> None:
    assert split(b"x" * 50 + b"\nnext\n" + b"y" * 40, size, 10) == [b"x" * 11, b"next", b"y" * 11]


@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_a_packed_body_is_unpacked(size: int) -> None:
    data = b"".join(b"line %d %d\n" % (number, random.Random(number).getrandbits(200)) for number in range(500))
    expected = data.split(b"\n")[:-1]
    assert split(gzip.compress(data), size) == expected
    cut = data.index(b"\n", 5_000) - 3
    members = gzip.compress(data[:cut]) + gzip.compress(data[cut:]) + b"\0" * 20
    assert split(members, size) == expected


def test_what_unpacks_to_very_much_is_unpacked_in_pieces() -> None:
    async def scenario() -> int:
        pieces = [len(piece) async for piece in unpacked(chunks(gzip.compress(b"0" * 50_000_000), 65_536))]
        assert sum(pieces) == 50_000_000
        return max(pieces)

    assert asyncio.run(scenario()) <= 256 * 1024


@pytest.mark.parametrize("damage", ["ends early", "other bytes", "garbage behind"])
def test_a_damaged_body_is_reported_after_what_could_be_read(damage: str) -> None:
    packed = gzip.compress(b"one\ntwo\n" + random.Random(1).randbytes(1_000))
    bad = {"ends early": packed[:-9], "other bytes": packed[:500] + b"\0" * 600, "garbage behind": packed + b"xyz"}[
        damage
    ]
    seen = []

    async def scenario() -> None:
        async for line in lines(unpacked(chunks(bad, 16)), 2_000):
            seen.append(line)

    with pytest.raises(CallerError, match="gzip"):
        asyncio.run(scenario())
    assert seen[:2] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (FILE, {}),
        (FILE, {"content-encoding": "identity"}),
        (gzip.compress(FILE), {"content-encoding": "gzip"}),
        (gzip.compress(FILE), {}),
    ],
    ids=["plain", "said to be plain", "gzip", "gzip without saying so"],
)
def test_a_file_is_imported_and_its_bad_line_reported(content: bytes, headers: dict[str, str]) -> None:
    response = Surface()("POST", "/import", content=content, headers=headers)
    assert response.status_code == 200
    report = response.json()
    assert (report["imported"], report["failed"]) == (2, 2)
    assert report["errors"][0]["line"] == 2


def test_an_import_has_no_limit_of_size() -> None:
    count = 2 * imports.LINE_BYTES_MAX // len(ROW)
    report = Surface()("POST", "/import", content=(ROW + b"\n") * count).json()
    assert report["imported"] == count


def test_damaged_gzip_is_the_callers_mistake() -> None:
    response = Surface()("POST", "/import", content=gzip.compress(FILE)[:-9], headers={"content-encoding": "gzip"})
    assert_problem(response, 400, says="left alone when it is sent again")


def test_an_encoding_that_is_not_known_is_refused() -> None:
    response = Surface()("POST", "/import", content=FILE, headers={"content-encoding": "br"})
    assert_problem(response, 415, field="content-encoding")
