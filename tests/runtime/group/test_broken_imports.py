"""An import that nobody ends any more is ended by the owners of the partitions, and one that goes on is left alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, LogError, Stream
from coordinator.model import messages
from coordinator.model.errors import TransientError
from coordinator.runtime.group.broken_imports import BrokenImports
from coordinator.runtime.group.owned import OwnedPartitions
from coordinator.runtime.group.questions import AskInvocation
from coordinator.runtime.group.telling import Telling
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.queries import PartitionQueries
from coordinator.runtime.snapshots.owned_stores import OwnedStores
from coordinator.runtime.views import PartitionSummary
from tests.partition.world import keyed


class Scene:
    """A process that owns partition 0."""

    def __init__(self, log: EmbeddedLog, owned: OwnedPartitions) -> None:
        self.log = log
        self.owned = owned
        self.looks = BrokenImports(log, owned)

    async def leave(self, number: int) -> str:
        """What an import does to a key: one that waits for it, and nobody who has it."""
        id = keyed("key", number)
        row = messages.Import(
            id=id,
            service="Cart",
            handler="add",
            key="key",
            type=1,
            status="pending",
            created_at=number,
            modified_at=number,
        )
        self.log.append([Entry(Stream.COMMANDS, 0, messages.encode(row))])
        assert await self.status(id) == "pending"
        return id

    async def status(self, id: str) -> str:
        """Of an invocation, once all that is on the log is applied."""
        found = await self.owned.answer(0, AskInvocation(self.log.bounds(Stream.COMMANDS, 0).end - 1, id))
        return str(found.status)

    def ends(self) -> int:
        """How often the log says that an import is over."""
        run = self.log.read(Stream.COMMANDS, 0, 0, records_max=100, bytes_max=1 << 20)
        return sum(isinstance(messages.decode_command(record.value), messages.ImportEnd) for record in run)


@contextlib.asynccontextmanager
async def owning(path: Path) -> AsyncIterator[Scene]:
    data = DataDirectory(path)
    log = data.open_log(1)
    owned = OwnedPartitions(data, log, OwnedStores(data, log, None), Telling())
    owned.own(frozenset((0,)))
    try:
        await until(lambda: owned.unready() == [])
        yield Scene(log, owned)
    finally:
        await owned.close()
        log.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - threads have no event of this loop
            await asyncio.sleep(0.01)


def test_keys_that_were_left_behind_are_handed_on_once_nothing_was_left_for_a_while(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as at:
            await at.looks.look()
            first = await at.leave(1)
            await at.looks.look()
            second = await at.leave(2)
            await at.looks.look()
            assert at.ends() == 0, "it goes on"
            assert await at.status(first) == "pending"
            await at.looks.look()
            assert at.ends() == 1
            assert await at.status(first) == "ready"
            assert await at.status(second) == "pending", "it is the next to have the key"
            await at.looks.look()
            await at.looks.look()
            assert at.ends() == 1, "nothing is left to end"

    asyncio.run(scene())


def test_what_the_log_does_not_take_is_tried_again_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Sequence[Entry]] = []

    def refuse(entries: Sequence[Entry]) -> Future[list[int]]:
        refused.append(entries)
        failed: Future[list[int]] = Future()
        failed.set_exception(LogError("nobody is there"))
        return failed

    async def scene() -> None:
        async with owning(tmp_path) as at:
            left = await at.leave(1)
            await at.looks.look()
            with monkeypatch.context() as away:
                away.setattr(at.log, "submit", refuse)
                await at.looks.look()
            assert len(refused) == 1
            assert await at.status(left) == "pending"
            await at.looks.look()
            assert await at.status(left) == "ready"

    asyncio.run(scene())


def test_a_store_that_cannot_be_read_for_now_is_passed_over_and_whatever_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = [TransientError("too many files are open"), RuntimeError("a defect")]
    summary = PartitionQueries.summary

    def fail(queries: PartitionQueries) -> PartitionSummary:
        if failures:
            raise failures.pop(0)
        return summary(queries)

    async def scene() -> None:
        async with owning(tmp_path) as at:
            left = await at.leave(1)
            monkeypatch.setattr(PartitionQueries, "summary", fail)
            await at.looks.look()
            assert len(failures) == 1
            monkeypatch.setattr("coordinator.runtime.group.broken_imports.SILENT_S", 0.01)
            looking = asyncio.create_task(at.looks.run())
            await until(lambda: at.ends() == 1)
            assert not looking.done()
            looking.cancel()
            assert await at.status(left) == "ready"

    asyncio.run(scene())


def test_a_partition_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as at:
            await at.leave(1)
            await at.looks.look()
            at.owned.doubt()
            await at.looks.look()
            assert at.ends() == 0

    asyncio.run(scene())
