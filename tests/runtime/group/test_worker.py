"""A worker that may have lost its partitions without knowing answers no questions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError

from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group.membership import Membership
from coordinator.runtime.group.owned import NotOwnedError
from coordinator.runtime.group.questions import AskSummary
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.group.worker import Worker
from coordinator.runtime.layout import DataDirectory
from tests.runtime.group.serving import Brokers

ADDRESS = "127.0.0.1:1"


class Clock:
    """The worker's."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Consumer:
    """Of a group that assigns both partitions at once, and refuses the member when it is told to."""

    def __init__(self, at: "Group") -> None:
        self._at = at

    async def start(self) -> None:
        if self._at.refuses.is_set():
            raise GroupAuthorizationFailedError("coordinator.partitions")

    def subscribe(self, topics: list[str], listener: Any) -> None:
        listener.on_partitions_assigned([TopicPartition(topics[0], number) for number in range(2)])

    def pause(self, *partitions: TopicPartition) -> None:
        pass

    async def getmany(self, timeout_ms: int) -> None:
        await self._at.refuses.wait()
        raise GroupAuthorizationFailedError("coordinator.partitions")

    async def stop(self) -> None:
        self._at.answered_when_it_left.append(await self._at.answers())


class Group:
    """A worker on a group of its own."""

    def __init__(self, worker: Worker, brokers: Brokers, clock: Clock) -> None:
        self.worker = worker
        self.brokers = brokers
        self.clock = clock
        self.refuses = asyncio.Event()
        self.answered_when_it_left: list[bool] = []

    async def answers(self) -> bool:
        """Whether it does."""
        try:
            await self.worker.answer(0, AskSummary(-1))
        except (UnavailableError, NotOwnedError):
            return False
        return True


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - threads have no event of this loop
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def working(path: Path, monkeypatch: pytest.MonkeyPatch, **properties: str) -> AsyncIterator[Group]:
    """A worker with sessions of ten seconds and heartbeats of three, as a member that owns everything."""
    data, brokers, clock = DataDirectory(path), Brokers(), Clock()
    monkeypatch.setattr("coordinator.runtime.group.worker._clock_s", clock)
    monkeypatch.setattr("coordinator.runtime.group.membership._PAUSE_S", 0.01)
    log = data.open_log(2)
    worker = Worker(KafkaSettings("127.0.0.1:1", properties), log, data, ADDRESS)
    worker._watch = Watch(brokers.directory)
    group = Group(worker, brokers, clock)
    monkeypatch.setattr(Membership, "_consumer", lambda self: Consumer(group))
    brokers.owned = {ADDRESS: {0, 1}}
    worker.start()
    try:
        await until(lambda: worker.unready() == [])
        yield group
    finally:
        await worker.close()
        log.close()


@pytest.mark.parametrize(("away_s", "doubts"), [(3, False), (8, True), (12, True)])
def test_an_absence_that_may_have_ended_the_session_raises_doubt(
    away_s: int, doubts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with working(tmp_path, monkeypatch) as group:
            group.brokers.rebalancing = True  # so that nobody can say whose they are
            assert await group.answers()
            group.clock.now_s += away_s
            assert await group.answers() is not doubts
            group.brokers.rebalancing = False
            await until(lambda: not group.worker._owned.doubted)
            assert await group.answers()
            assert group.worker.view().zombies == doubts

    asyncio.run(scene())


def test_a_member_that_has_to_leave_answers_nothing_before_it_has_joined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with working(tmp_path, monkeypatch) as group:
            group.refuses.set()
            await until(lambda: len(group.answered_when_it_left) >= 2)
            assert not any(group.answered_when_it_left)
            assert group.worker.unready() == ["this process is not a member of the group"]
            group.clock.now_s += 12  # what the group says of it now may be of before
            assert not await group.answers()
            await group.worker.watch.looked()
            await asyncio.sleep(0)
            assert not await group.answers()
            group.refuses.clear()
            await until(lambda: group.worker.unready() == [])
            assert await group.answers()

    asyncio.run(scene())
