"""Routing from the contract's words alone: none of the project's code computes what is compared here."""

from __future__ import annotations

from typing import Any

import pytest
import xxhash

from coordinator.contract import prose
from tests.contract.goldens import GOLDEN, golden_json

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
CASES = golden_json("routing")["cases"] if (GOLDEN / "routing.json").is_file() else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_an_id_carries_its_partition_key(case: Any) -> None:
    assert case["id"].startswith("inv_1")
    assert len(case["id"]) == len("inv_1") + 11 + 22
    number = 0
    for digit in case["id"][5:16]:
        number = number * 62 + DIGITS.index(digit)
    assert str(number) == case["partition_key"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_partition_key_gives_the_partition(case: Any) -> None:
    for count, partition in case["partition_of"].items():
        assert partition == int(case["partition_key"]) * int(count) // 2**64
        assert 0 <= partition < int(count)


@pytest.mark.parametrize("case", [case for case in CASES if "key" in case], ids=lambda case: case["id"])
def test_a_key_gives_the_partition_key(case: Any) -> None:
    digest = xxhash.xxh3_64_digest(case["key"].encode() + b"\xff", seed=0)
    assert str(int.from_bytes(digest[::-1], "big")) == case["partition_key"]


def test_both_ends_of_the_range_are_there() -> None:
    keys = {case["partition_key"] for case in CASES}
    assert {"0", str(2**64 - 1)} <= keys
    assert {case["partition_of"]["256"] for case in CASES} >= {0, 255}


def test_the_words_name_the_digits() -> None:
    assert "`0-9a-zA-Z` in this order" in prose.ROUTING
