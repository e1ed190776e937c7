"""Waiting for ends: one look serves all who wait, and nobody is forgotten."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from coordinator.model.errors import NotFoundError
from coordinator.runtime.endings import Endings
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.owners import Queries
from coordinator.runtime.views import Ending
from tests.http.stub import an_invocation


class Store:
    """A partition's queries, over what a test says has ended."""

    def __init__(self) -> None:
        self.rows = {f"inv_{number}": Ending(an_invocation(number), None) for number in range(1_000)}
        self.looks: list[int] = []
        self.looked = threading.Event()

    def end(self, id: str) -> None:
        self.rows[id] = Ending(an_invocation(1, outcome="success"), id.encode())

    async def endings(self, ids: Sequence[str]) -> dict[str, Ending]:
        self.looks.append(len(ids))
        found = {id: self.rows[id] for id in ids if id in self.rows}
        self.looked.set()
        return found


def endings(store: Store) -> Endings:
    return Endings([cast(Queries, store)])


def test_all_who_wait_are_told_with_few_looks() -> None:
    async def scene() -> tuple[list[Any], Store]:
        store = Store()
        at = endings(store)
        waiting = [asyncio.create_task(at.of(id, 0, 30)) for id in store.rows for _ in range(2)]
        await asyncio.to_thread(store.looked.wait, 10)
        for id in store.rows:
            store.end(id)
            at.applied(0)
        return await asyncio.gather(*waiting), store

    found, store = asyncio.run(scene())
    assert [ending.output for ending in found] == [id.encode() for id in store.rows for _ in range(2)]
    assert len(store.looks) <= 3


def test_who_waits_too_long_is_told_how_it_stands() -> None:
    async def scene() -> Ending:
        at = endings(Store())
        return await at.of("inv_1", 0, 0.01)

    assert asyncio.run(scene()).invocation.outcome is None


def test_what_is_not_there_is_not_waited_for() -> None:
    async def scene() -> None:
        store = Store()
        at = endings(store)
        with pytest.raises(NotFoundError):
            await at.of("inv_none", 0, 30)
        waiting = asyncio.create_task(at.of("inv_1", 0, 30))
        store.looked.clear()
        await asyncio.to_thread(store.looked.wait, 10)
        del store.rows["inv_1"]
        at.applied(0)
        with pytest.raises(NotFoundError):
            await waiting

    asyncio.run(scene())


def test_a_server_that_ends_lets_them_go() -> None:
    async def scene() -> None:
        store = Store()
        at = endings(store)
        waiting = asyncio.create_task(at.of("inv_1", 0, 30))
        await asyncio.to_thread(store.looked.wait, 10)
        at.close()
        with pytest.raises(UnavailableError):
            await waiting

    asyncio.run(scene())


def test_a_store_that_cannot_be_read_is_no_reason_to_wait() -> None:
    async def scene() -> None:
        store = Store()
        store.rows = cast(Any, None)
        with pytest.raises(TypeError):
            await endings(store).of("inv_1", 0, 30)

    asyncio.run(scene())
