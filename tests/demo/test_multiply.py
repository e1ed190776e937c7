"""Copies of the bundled rows are rows that the same workload might have left."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from coordinator.demo import multiply
from coordinator.demo.multiply import AHEAD_US, SPREAD_US, Original, Row, multiplied
from coordinator.model import ids
from coordinator.model.limits import HOUR_US
from coordinator.model.messages import Import
from coordinator.model.restate_rows import parse_row
from coordinator.model.times import parse_rfc3339

NOW = parse_rfc3339("2027-03-01T12:00:00Z")
COPIES = 3


@pytest.fixture(scope="module")
def originals() -> list[Original]:
    return multiply.bundled()


@pytest.fixture(scope="module")
def rows(originals: list[Original]) -> list[Row]:
    return list(multiplied(originals, count=COPIES * len(originals), seed=7, now_us=NOW))


@pytest.fixture(scope="module")
def imports(rows: list[Row]) -> list[Import]:
    """As the server reads them; it refuses an id that does not carry the partition key of its key."""
    return [parse_row(msgspec.json.encode(row)) for row in rows]


def at(row: Row, name: str) -> int:
    return parse_rfc3339(row[name])


def test_every_row_of_every_copy_is_taken_and_routes_by_its_key(imports: list[Import]) -> None:
    for one in imports:
        if one.key is not None:
            assert ids.partition_key_of(one.id) == ids.key_partition_key(one.key)
    keyless = Counter(ids.partition_of(one.id, 4) for one in imports if one.key is None)
    assert min(keyless.values()) > 0.8 * keyless.total() / 4


def test_ids_keys_and_idempotency_keys_of_copies_are_their_own(originals: list[Original], rows: list[Row]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)
    once = [row["idempotency_key"] for row in rows if "idempotency_key" in row]
    assert len(set(once)) == len(once)
    first = {row["target_service_key"] for row in rows[: len(originals)] if "target_service_key" in row}
    copied = {row["target_service_key"] for row in rows[len(originals) :] if "target_service_key" in row}
    assert not first & copied
    assert {key.split("~")[0] for key in copied} == first
    for row in rows:
        parts = [row["target_service_name"], row.get("target_service_key"), row["target_handler_name"]]
        assert row["target"] == "/".join(part for part in parts if part is not None)


def test_the_caller_of_a_copy_is_the_copy_of_its_caller(originals: list[Original], rows: list[Row]) -> None:
    by_id = {row["id"]: row for row in rows}
    children = [row for row in rows if "invoked_by_id" in row]
    assert len(children) == COPIES * sum(1 for one in originals if one.parent is not None)
    for child in children:
        parent = by_id[child["invoked_by_id"]]
        assert parent["target"] == child["invoked_by_target"]
        assert at(parent, "created_at") <= at(child, "created_at")


def test_a_copy_keeps_how_many_there_are_of_everything(originals: list[Original], rows: list[Row]) -> None:
    def shape(some: list[Row]) -> Counter[tuple[Any, ...]]:
        names = ("target_service_name", "target_handler_name", "target_service_ty", "status", "completion_result")
        return Counter(tuple(row.get(name) for name in names) for row in some)

    size = len(originals)
    wanted = shape([one.row for one in originals])
    assert [shape(rows[start : start + size]) for start in range(0, len(rows), size)] == [wanted] * COPIES


def test_the_newest_change_is_now_and_copies_lie_in_the_two_hours_before(
    originals: list[Original], rows: list[Row]
) -> None:
    assert max(at(row, "modified_at") for row in rows) == NOW
    span = NOW - min(at(row, "created_at") for row in rows[: len(originals)])
    ages = [NOW - at(row, "created_at") for row in rows[len(originals) :]]
    assert min(ages) >= 0
    assert max(ages) <= SPREAD_US + span
    tenths = Counter(age * 10 // SPREAD_US for age in ages)
    assert all(tenths[tenth] > len(ages) / 20 for tenth in range(10)), "spread evenly"


def test_the_times_of_a_row_keep_their_order(rows: list[Row]) -> None:
    for row in rows:
        order = [row[name] for name in ("created_at", "modified_at") if name in row]
        assert order == sorted(order)
        if "completed_at" in row:
            assert row["completed_at"] >= row["created_at"]


def test_nothing_is_due_for_most_of_an_hour(imports: list[Import]) -> None:
    due = [one.due_at for one in imports if one.due_at is not None]
    assert len(due) == COPIES * 4_400
    assert min(due) >= NOW + AHEAD_US
    assert max(due) <= NOW + 2 * HOUR_US + HOUR_US


def test_the_queue_of_a_key_keeps_its_order(originals: list[Original], rows: list[Row]) -> None:
    def queues(some: list[Row]) -> dict[str, list[int]]:
        """Where each key's waiters stand in the file, in the order of their queue."""
        waiting: dict[str, list[tuple[str, int]]] = {}
        for row in some:
            if row["status"] == "pending":
                key = row["target_service_key"].split("~")[0]
                waiting.setdefault(key, []).append((row["inboxed_at"], len(waiting.get(key, ()))))
        return {key: [number for _, number in sorted(one)] for key, one in waiting.items()}

    size = len(originals)
    assert queues(rows[size : 2 * size]) == queues(rows[:size])


def test_it_stops_at_the_number_asked_for_without_parting_a_family(originals: list[Original]) -> None:
    largest = max(len(family) for family in multiply.families(originals))
    for count in (1_000, 17_000, 20_000):
        rows = list(multiplied(originals, count=count, seed=1, now_us=NOW))
        assert count <= len(rows) < count + largest
        known = {row["id"] for row in rows}
        assert all(row["invoked_by_id"] in known for row in rows if "invoked_by_id" in row)
        assert {row["status"] for row in rows} == {one.row["status"] for one in originals}


def test_the_same_seed_gives_the_same_rows_and_another_one_others(originals: list[Original]) -> None:
    def some(seed: int) -> list[Row]:
        return list(multiplied(originals, count=20_000, seed=seed, now_us=NOW))[17_000:]

    assert some(1) == some(1)
    assert not {row["id"] for row in some(1)} & {row["id"] for row in some(2)}


def test_families_hold_what_is_connected_by_calls_or_keys() -> None:
    def original(id: str, key: str | None = None, parent: str | None = None) -> Original:
        row = {"id": id, "target_service_name": "S", "target_service_key": key, "invoked_by_id": parent}
        return Original(row)

    some = [original("a"), original("b", key="k"), original("c", parent="a"), original("d", key="k", parent="c")]
    some += [original("e"), original("f", parent="elsewhere"), original("g", key="other")]
    found = [{one.id for one in family} for family in multiply.families(some)]
    assert found == [{"a", "b", "c", "d"}, {"e"}, {"f"}, {"g"}]


def test_lines_come_in_pieces_with_their_number() -> None:
    rows = [{"id": str(number), "text": "x" * 1_000} for number in range(200)]
    pieces = list(multiply.lines(rows))
    assert len(pieces) > 1
    assert sum(number for _, number in pieces) == len(rows)
    decoded = [msgspec.json.decode(line) for piece, _ in pieces for line in piece.splitlines()]
    assert decoded == rows
