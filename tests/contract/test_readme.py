"""The page that teaches the contract: its code runs and its bytes are the golden ones."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import msgpack
import pytest

from coordinator.contract import samples
from coordinator.model.messages import Progress, RequestState, Tally, decode_request, encode
from tests.contract.goldens import SCHEMAS, decoder_of, golden

README = (SCHEMAS / "README.md").read_text(encoding="utf-8")
DUMPS = dict(re.findall(r"<!-- dump (\S+) -->\n```\n(.*?)```\n<!-- end -->", README, re.DOTALL))


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    """What the page's Python defines."""
    names: dict[str, Any] = {"msgpack": msgpack, "Counter": Counter}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    return names


def test_every_example_is_dumped() -> None:
    assert list(DUMPS) == [f"{type(message).__name__}-example" for message in samples.EXAMPLES]


@pytest.mark.parametrize("case", DUMPS)
def test_the_hex_is_the_golden_bytes(case: str) -> None:
    """The hex stands in the first columns, before the two blanks that part it from its meaning."""
    code = "".join(re.split(r"(?<=\S)  ", line, maxsplit=1)[0] for line in DUMPS[case].splitlines())
    assert bytes.fromhex(code) == golden(case)


def test_the_code_that_asks_packs_the_golden_message(code: dict[str, Any]) -> None:
    assert code["value"] == golden("Submit-example")
    assert decode_request(code["value"]) == samples.EXAMPLES[0]


def test_the_code_that_follows_gives_the_same_end_in_any_order_and_however_often_it_is_told(
    code: dict[str, Any],
) -> None:
    told = [
        Progress(
            request="mine",
            partition=partition,
            number=number,
            state="completed" if last else "running",
            position=1,
            revision=0,
            at=1,
            tally=Tally(matched=count, ended=count),
        )
        for partition, number, count, last in [(0, 4, 1, False), (0, 9, 5, True), (1, 2, 7, True)]
    ]
    state = RequestState(request="mine", number=2, state="completed", at=2, tally=Tally(), settled=True)
    other = RequestState(request="other", number=7, state="aborted", at=2, tally=Tally())
    unknown = msgpack.packb({"kind": 63, "v": 9, "request": "mine", "new": [1]})
    values = [*(encode(message) for message in (*told, state, other)), unknown]
    for order in itertools.permutations(values):
        *_, end = code["follow"]("mine", [*order, *order])
        assert end == ("completed", {"matched": 12, "ended": 12}, True)


def test_the_code_that_follows_reads_the_golden_examples(code: dict[str, Any]) -> None:
    values = [golden("Progress-example"), golden("RequestState-example")]
    *_, end = code["follow"]("bad-deploy-1", values)
    assert end == ("completed", {"matched": 3, "ended": 3}, True)


def test_the_files_that_the_page_names_exist() -> None:
    for name in re.findall(r"`(golden/[\w-]+\.msgpack)`", README):
        assert (SCHEMAS / name).is_file()
        assert decoder_of(name.removeprefix("golden/"))(golden(name[7:-8]))
