"""One listing over partitions that answer page by page."""

import asyncio
import random
from typing import Any, cast

import pytest

from coordinator.model.errors import CorruptionError
from coordinator.model.filters import EMPTY, Filter
from coordinator.runtime import listing as module
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.listing import listing
from coordinator.runtime.owners import Queries
from coordinator.runtime.views import Cursor, InvocationView, Listed
from tests.http.stub import an_invocation

PAGE = 7


class Partition:
    """Rows as a store has them; answers in pages, and may fail instead."""

    def __init__(self, *places: tuple[int, str]) -> None:
        self.rows = sorted(places, key=lambda place: (-place[0], place[1]))
        self.fails: Exception | None = None
        self.asked = 0

    async def page(self, filter: Filter, after: Cursor | None, limit: int) -> list[Listed]:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        behind = [row for row in self.rows if after is None or (-row[0], row[1]) > (-after.at, after.id)]
        await asyncio.sleep(0)
        return [Listed(at, an_invocation(1, id=id)) for at, id in behind[:limit]]


def listed(*partitions: Partition, limit: int | None = None, after: Cursor | None = None) -> list[str]:
    async def scene() -> list[InvocationView]:
        found = listing(cast(list[Queries], list(partitions)), EMPTY, after, limit)
        return [view async for chunk in found for view in chunk]

    return [view.id for view in asyncio.run(scene())]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", PAGE)


@pytest.mark.parametrize("seed", range(20))
def test_pages_of_all_partitions_are_one_order_whatever_the_limit_and_wherever_it_goes_on(seed: int) -> None:
    rng = random.Random(seed)
    places = [(rng.randrange(5), f"inv_{number:03}") for number in range(rng.randrange(60))]
    shares: list[list[Any]] = [[] for _ in range(4)]
    for place in places:
        rng.choice(shares).append(place)
    partitions = [Partition(*share) for share in shares]
    ordered = sorted(places, key=lambda place: (-place[0], place[1]))
    assert listed(*partitions) == [id for _, id in ordered]
    for limit in (0, 1, PAGE, PAGE + 1, len(places)):
        assert listed(*partitions, limit=limit) == [id for _, id in ordered][:limit]
    if ordered:
        middle = rng.randrange(len(ordered))
        assert listed(*partitions, after=Cursor(*ordered[middle])) == [id for _, id in ordered][middle + 1 :]


def test_a_partition_is_asked_again_only_when_its_page_is_used_up() -> None:
    old, new = Partition(*((1, f"old_{n}") for n in range(50))), Partition(*((2, f"new_{n}") for n in range(50)))
    listed(old, new, limit=2 * PAGE)
    assert (old.asked, new.asked) == (1, 2)


def test_every_partition_that_does_not_answer_is_named_and_no_list_is_given() -> None:
    partitions = [Partition((1, "a")) for _ in range(3)]
    for number in (0, 2):
        partitions[number].fails = UnavailableError(f"partition {number} has no owner")
    with pytest.raises(UnavailableError, match="partition 0 has no owner; partition 2 has no owner"):
        listed(*partitions)


def test_damage_is_not_taken_for_absence() -> None:
    gone, damaged = Partition(), Partition()
    gone.fails, damaged.fails = UnavailableError("partition 0 has no owner"), CorruptionError("damaged")
    with pytest.raises(CorruptionError):
        listed(gone, damaged)
