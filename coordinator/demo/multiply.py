"""The bundled rows of a real Restate server, multiplied.

A copy is what the same workload would have left a while earlier: its invocations have ids and idempotency keys of
their own, its objects and workflows have keys of their own (`cart55~3`), and whoever called one of them is the copy
of whoever called the original. An id carries the partition key of its invocation's key, so a new key means a new
partition, as it would in Restate.

All times move so that the newest `modified_at` of the original is now. A copy lies up to two hours before that, a
family (a call tree, or all that shares a key) at once, so that parents stay older than their children and queues keep
their order. Due times do not move back: nothing comes due while someone watches.
"""

import gzip
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from coordinator.examples import restate_rows
from coordinator.model import ids
from coordinator.model.limits import HOUR_US
from coordinator.model.restate_rows import TIME_COLUMNS
from coordinator.model.times import parse_rfc3339, to_rfc3339

SPREAD_US: Final = 2 * HOUR_US
AHEAD_US: Final = HOUR_US
"""How much later than in the original things come due; its first retries are half a second away."""
_DUE: Final = frozenset(("scheduled_start_at", "next_retry_at"))
_PIECE_BYTES: Final = 64 * 1024

Row = dict[str, Any]
"""One line of the file: columns of `sys_invocation` by name."""


class Original:
    """A row of the file and what of it differs between copies."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.id: str = row["id"]
        self.key: str | None = row.get("target_service_key")
        self.parent: str | None = row.get("invoked_by_id")
        self.times = {name: parse_rfc3339(row[name]) for name in TIME_COLUMNS if row.get(name) is not None}

    def copied(self, copy: int, names: dict[str, str], offset_us: int, back_us: int) -> Row:
        """The row of this copy; `names` has the new ids of its family by the old ones."""
        row = self.row.copy()
        for name, at_us in self.times.items():
            row[name] = to_rfc3339(at_us + offset_us + (AHEAD_US if name in _DUE else -back_us))
        if copy == 0:
            return row
        row["id"] = names[self.id]
        if self.key is not None:
            key = copied_key(self.key, copy)
            row["target_service_key"] = key
            row["target"] = f"{row['target_service_name']}/{key}/{row['target_handler_name']}"
        if "idempotency_key" in row:
            row["idempotency_key"] = copied_key(row["idempotency_key"], copy)
        if self.parent in names:
            row["invoked_by_id"] = names[self.parent]
            row["invoked_by_target"] = _copied_target(row["invoked_by_target"], copy)
        return row


Family = Sequence[Original]
"""Rows that belong together: a call tree, what shares a key, or one alone."""


def copied_key(key: str, copy: int) -> str:
    """A key of a copy; none of the original's keys has the sign in it."""
    return f"{key}~{copy}" if copy else key


def _copied_target(target: str, copy: int) -> str:
    service, *key, handler = target.split("/")
    return "/".join((service, *(copied_key(part, copy) for part in key), handler))


def bundled() -> list[Original]:
    """The rows of the file that comes with the project."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with restate_rows().open("rb") as packed, gzip.open(packed) as lines:
        return [Original(decode(line)) for line in lines]


def families(originals: Iterable[Original]) -> list[Family]:
    """The rows put together by parent and by key, in the order of the file."""
    leaders: dict[str, str] = {}

    def leader(name: str) -> str:
        while (above := leaders.setdefault(name, name)) != name:
            name = above
        return name

    rows = list(originals)
    for one in rows:
        service = one.row["target_service_name"]
        for other in (one.parent, None if one.key is None else f"{service}/{one.key}"):
            if other is not None:
                leaders[leader(one.id)] = leader(other)
    found: dict[str, list[Original]] = {}
    for one in rows:
        found.setdefault(leader(one.id), []).append(one)
    return list(found.values())


def multiplied(originals: Sequence[Original], *, count: int, seed: int, now_us: int) -> Iterator[Row]:
    """At least `count` rows: the original, as many copies as it takes, of the last one whole families.

    The same seed and time give the same rows.
    """
    chance = random.Random(seed)  # noqa: S311 - reproducible on purpose
    whole = families(originals)
    offset_us = now_us - max(one.times["modified_at"] for one in originals)
    copy, left = 0, count
    while left > 0:
        if left < len(originals):
            chance.shuffle(whole)
        for family in whole:
            if left <= 0:
                return
            back_us = chance.randrange(SPREAD_US) if copy else 0
            names = {one.id: _new_id(one, copy, chance) for one in family} if copy else {}
            for one in family:
                yield one.copied(copy, names, offset_us, back_us)
            left -= len(family)
        copy += 1


def _new_id(one: Original, copy: int, chance: random.Random) -> str:
    partition_key = chance.getrandbits(64) if one.key is None else ids.key_partition_key(copied_key(one.key, copy))
    return ids.invocation_id(partition_key, chance.getrandbits(128))


def lines(rows: Iterable[Row]) -> Iterator[tuple[bytes, int]]:
    """The rows as lines of JSON, many in a piece, and how many there are in it."""
    encoder = msgspec.json.Encoder()
    held, number = bytearray(), 0
    for row in rows:
        encoder.encode_into(row, held, len(held))
        held += b"\n"
        number += 1
        if len(held) >= _PIECE_BYTES:
            yield bytes(held), number
            held, number = bytearray(), 0
    if held:
        yield bytes(held), number
