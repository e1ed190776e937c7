"""The partitions that a process owns: they come and go, and questions are answered only when the answer is right."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Stream
from coordinator.model import ids, messages
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group.owned import NotOwnedError, OwnedPartitions
from coordinator.runtime.group.questions import AskInvocation, AskSummary
from coordinator.runtime.group.telling import Telling
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.owned_stores import OwnedStores
from coordinator.stores.reader import StoreReader

ID = ids.invocation_id(1, 1)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - threads have no event of this loop
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def owning(path: Path) -> AsyncIterator[tuple[OwnedPartitions, EmbeddedLog]]:
    data = DataDirectory(path)
    log = data.open_log(2)
    owned = OwnedPartitions(data, log, OwnedStores(data, log, None), Telling())
    try:
        yield owned, log
    finally:
        await owned.close()
        log.close()


def invoke(log: EmbeddedLog) -> int:
    command = messages.Invoke(id=ID, service="Greeter", handler="greet")
    return log.append([Entry(Stream.COMMANDS, 0, messages.encode(command))])[0]


def test_a_partition_answers_once_it_is_taken_over_and_not_when_it_was_let_go(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as (owned, log):
            position = invoke(log)
            with pytest.raises(NotOwnedError):
                await owned.answer(0, AskSummary(-1))
            owned.own(frozenset((0,)))
            await until(lambda: owned.unready() == [])
            assert (await owned.answer(0, AskInvocation(position, ID))).status == "ready"
            with pytest.raises(NotOwnedError):
                await owned.answer(1, AskSummary(-1))
            owned.own(frozenset((1,)))
            with pytest.raises(NotOwnedError):
                await owned.answer(0, AskSummary(-1))
            await until(lambda: owned.positions.keys() == {1})
            owned.own(frozenset((0,)))
            await until(lambda: owned.positions.keys() == {0})
            assert (await owned.answer(0, AskSummary(position))).position >= position
            assert owned.takeovers == 3

    asyncio.run(scene())


def test_an_answer_waits_until_it_is_as_new_as_what_the_asker_has_seen(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as (owned, log):
            owned.own(frozenset((0,)))
            await until(lambda: owned.unready() == [])
            asking = asyncio.create_task(owned.answer(0, AskInvocation(0, ID)))
            await asyncio.sleep(0.05)
            assert not asking.done()
            invoke(log)
            assert (await asking).id == ID

    asyncio.run(scene())


def test_a_partition_that_never_gets_there_says_that_it_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        monkeypatch.setattr("coordinator.runtime.group.owned.BEHIND_S", 0.05)
        async with owning(tmp_path) as (owned, _):
            owned.own(frozenset((0,)))
            await until(lambda: owned.unready() == [])
            with pytest.raises(UnavailableError, match="partition 0 is behind"):
                await owned.answer(0, AskSummary(1_000))

    asyncio.run(scene())


def test_a_question_under_way_is_answered_though_the_partition_is_let_go_and_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()
    state = StoreReader.state

    def slowly(reader: StoreReader) -> bytes | None:
        asked.set()
        go_on.wait()
        return state(reader)

    async def scene() -> None:
        async with owning(tmp_path) as (owned, log):
            owned.own(frozenset((0,)))
            position = invoke(log)
            await until(lambda: owned.unready() == [] and owned.positions[0] == position)
            with monkeypatch.context() as slow:
                slow.setattr(StoreReader, "state", slowly)
                asking = asyncio.create_task(owned.answer(0, AskSummary(position)))
                await asyncio.to_thread(asked.wait)
                owned.own(frozenset())
                await until(lambda: not owned._changing)
            go_on.set()
            assert (await asking).position == position
            owned.own(frozenset((0,)))
            await until(lambda: owned.unready() == [])
            assert (await owned.answer(0, AskSummary(position))).position == position

    asyncio.run(scene())


def test_what_fails_when_a_partition_comes_or_goes_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    async def scene() -> None:
        monkeypatch.setattr("coordinator.runtime.group.owned._AGAIN_S", 0.01)
        async with owning(tmp_path) as (owned, log):
            with structlog.testing.capture_logs() as said:
                with monkeypatch.context() as away:
                    away.setattr(OwnedStores, "own", fail)
                    owned.own(frozenset((0,)))
                    await until(lambda: len(said) > 1)
                await until(lambda: owned.unready() == [])
                with monkeypatch.context() as away:
                    away.setattr(StoreReader, "close", fail)
                    owned.own(frozenset())
                    await until(lambda: not owned._changing)
                owned.own(frozenset((0,)))
                await until(lambda: owned.unready() == [])
            failed = [one for one in said if one["event"] == "partition_not_changed"]
            assert len(failed) >= 2
            assert (await owned.answer(0, AskInvocation(invoke(log), ID))).status == "ready"

    asyncio.run(scene())


def test_what_is_assigned_to_a_process_that_is_ending_is_not_taken_over(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as (owned, _):
            owned.own(frozenset((0,)))
            await until(lambda: owned.unready() == [])
            closing = asyncio.create_task(owned.close())
            await asyncio.sleep(0)
            owned.own(frozenset((0, 1)))  # the other process has left the group first
            await closing
            assert (owned.wanted, owned.takeovers, owned._owned) == (frozenset(), 1, {})

    asyncio.run(scene())


def test_in_doubt_nothing_is_answered_until_it_is_said_whose_the_partitions_are(tmp_path: Path) -> None:
    async def scene() -> None:
        async with owning(tmp_path) as (owned, _):
            owned.own(frozenset((0, 1)))
            await until(lambda: owned.unready() == [])
            owned.doubt()
            with pytest.raises(UnavailableError, match="partition 0 may have another owner"):
                await owned.answer(0, AskSummary(-1))
            owned.own(frozenset((1,)))
            assert (await owned.answer(1, AskSummary(-1))).level == 1
            with pytest.raises(NotOwnedError):
                await owned.answer(0, AskSummary(-1))

    asyncio.run(scene())
