"""Owners in other processes: they are found, heard and asked, and what is missing is named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from coordinator.logs.port import LogError
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.model.filters import EMPTY, Filter
from coordinator.partition.outputs import Answer
from coordinator.runtime.channel import Applied, Standing, Told
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group.questions import AskEndings, AskPage, AskSummary
from coordinator.runtime.group.remote_owners import RemoteOwners
from coordinator.runtime.group.telling import QUEUED_BYTES_MAX, Telling
from coordinator.runtime.listing import listing
from coordinator.runtime.views import Cursor, Ending, Listed, PartitionSummary
from tests.http.stub import an_invocation
from tests.runtime.group.serving import Brokers, process

UP = Standing(1, True, None, 7, 3, 250)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another task's time
            await asyncio.sleep(0.01)


class Heard(list[Told]):
    """All that was told."""

    def applied(self) -> list[tuple[int, int, list[str | None]]]:
        return [(t.partition, t.position, [a.id for a in t.answers]) for t in self if isinstance(t, Applied)]


@contextlib.asynccontextmanager
async def owners(brokers: Brokers) -> AsyncIterator[tuple[RemoteOwners, Heard]]:
    remote, heard = RemoteOwners(brokers.directory, 3), Heard()
    remote.start(heard.append)
    try:
        yield remote, heard
    finally:
        await remote.close()


def test_an_owner_is_found_and_heard_from_the_beginning_of_the_stream_on() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as one:
            brokers.owned[one.address] = {1}
            one.telling.tell(UP)
            one.telling.tell(Applied(1, 41, [Answer(41, 202, "early")]))
            async with owners(brokers) as (remote, heard):
                await until(lambda: len(heard) >= 2)
                assert remote.standing(1) == UP
                assert remote.owner(1) == one.address
                assert (remote.standing(0), remote.owner(0)) == (None, None)
                one.telling.tell(Applied(1, 42, [Answer(42, 202, "late")]))
                await until(lambda: (1, 42, ["late"]) in heard.applied())
                # Where it stands is told again to who comes late, the answers are not.
                assert heard.applied() == [(1, 41, []), (1, 42, ["late"])]

    asyncio.run(scene())


def test_answers_come_back_whole_and_questions_say_how_new_they_must_be() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as one:
            brokers.owned[one.address] = {1}
            async with owners(brokers) as (remote, heard):
                await until(lambda: remote._owners == {1: one.address})
                at = remote.queries(1)
                one.answers[1] = PartitionSummary(position=9, loose_keys=True)
                assert await at.summary() == one.answers[1]
                one.answers[1] = [Listed(5, an_invocation(1))]
                assert await at.page(Filter(service="Greeter"), Cursor(3, "inv"), 10) == one.answers[1]
                one.telling.tell(Applied(1, 77, []))
                await until(lambda: len(heard) == 1)
                one.answers[1] = {"inv": Ending(an_invocation(1, outcome="success"), b"out")}
                assert await at.endings(["inv"]) == one.answers[1]
                assert one.asked == [
                    (1, AskSummary(-1)),
                    (1, AskPage(-1, Filter(service="Greeter"), Cursor(3, "inv"), 10)),
                    (1, AskEndings(77, ["inv"])),
                ]
                one.answers[1] = None
                assert await at.invocation("inv") is None
                assert await at.service_type("Greeter") is None

    asyncio.run(scene())


def test_damage_and_absence_come_back_as_what_they_are() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as one:
            brokers.owned[one.address] = {1}
            async with owners(brokers) as (remote, _):
                await until(lambda: remote._owners == {1: one.address})
                one.answers[1] = CorruptionError("the store is damaged")
                with pytest.raises(CorruptionError, match="the store is damaged"):
                    await remote.queries(1).summary()
                one.answers[1] = UnavailableError("partition 1 is being taken over")
                with pytest.raises(UnavailableError, match="partition 1 is being taken over"):
                    await remote.queries(1).summary()
                one.answers[1] = TransientError("the store cannot be used for now")
                with pytest.raises(UnavailableError, match="the store cannot be used for now"):
                    await remote.queries(1).summary()
                one.answers[1] = AssertionError("a defect")
                with pytest.raises(UnavailableError, match="which answers 500"):
                    await remote.queries(1).summary()

    asyncio.run(scene())


def test_a_listing_names_every_partition_without_an_owner() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as one:
            brokers.owned[one.address] = {1}
            one.answers[1] = []
            async with owners(brokers) as (remote, _):
                with pytest.raises(UnavailableError, match=r"partition 0 has no owner.*partition 2 has no owner"):
                    async for _chunk in listing([remote.queries(number) for number in range(3)], EMPTY, None, None):
                        pass

    asyncio.run(scene())


def test_a_question_follows_a_partition_that_has_just_moved() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as old, process() as new:
            brokers.owned = {old.address: {1}, new.address: set()}
            async with owners(brokers) as (remote, _):
                await until(lambda: remote._owners == {1: old.address})
                brokers.owned = {old.address: set(), new.address: {1}}
                new.answers[1] = PartitionSummary(position=5)
                assert (await remote.queries(1).summary()).position == 5
                assert [len(old.asked), len(new.asked)] == [1, 1]

    asyncio.run(scene())


def test_what_is_heard_counts_for_the_owner_alone() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as zombie, process() as owner:
            brokers.owned = {zombie.address: set(), owner.address: {1}}
            zombie.telling.tell(UP)
            async with owners(brokers) as (remote, heard):
                await until(lambda: {zombie.address, owner.address} <= remote._standings.keys())
                await until(lambda: bool(remote._standings[zombie.address]))
                assert remote.standing(1) is None
                assert list(heard) == []
                owner.telling.tell(UP)
                await until(lambda: remote.standing(1) == UP)

    asyncio.run(scene())


def test_an_owner_that_is_gone_is_no_owner_and_one_that_comes_back_is() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with owners(brokers) as (remote, _):
            async with process() as one:
                brokers.owned[one.address] = {1}
                one.telling.tell(UP)
                await until(lambda: remote.standing(1) == UP)
            await until(lambda: remote.standing(1) is None)
            with pytest.raises(UnavailableError, match=f"partition 1 is owned by {one.address}, which does not answer"):
                await remote.queries(1).summary()

    asyncio.run(scene())


def test_an_owner_that_hangs_is_not_waited_for_longer_than_it_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr("coordinator.runtime.group.remote_owners.SILENT_S", 0.2)
        brokers, hanging = Brokers(), asyncio.Event()

        async def hang(connection: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                if b"/told" in await connection.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                await hanging.wait()  # as a process does that is stopped: connections are open, and nothing comes
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        brokers.owned[f"{host}:{port}"] = {1}
        async with owners(brokers) as (remote, _):
            await until(lambda: 1 in remote._owners)
            async with asyncio.timeout(10):
                with pytest.raises(UnavailableError, match="which does not answer"):
                    await remote.queries(1).summary()
        hanging.set()
        server.close()

    asyncio.run(scene())


def test_what_was_known_last_holds_while_the_group_rebalances_and_while_no_broker_answers() -> None:
    async def scene() -> None:
        brokers = Brokers()
        async with process() as one:
            brokers.owned[one.address] = {1}
            one.answers[1] = PartitionSummary(position=5)
            async with owners(brokers) as (remote, _):
                await until(lambda: remote._owners == {1: one.address})
                brokers.owned, brokers.rebalancing = {}, True
                assert await remote.watch.looked() is None
                assert (await remote.queries(1).summary()).position == 5
                assert (remote.watch.up, remote.watch.outages) == (True, 0)
                brokers.fails = LogError("no broker answers")
                for _ in range(2):
                    assert await remote.watch.looked() is None
                assert (remote.watch.up, remote.watch.outages) == (False, 1)
                assert (await remote.queries(1).summary()).position == 5
                brokers.fails, brokers.rebalancing, brokers.owned = None, False, {one.address: {1}}
                await remote.watch.looked()
                assert (remote.watch.up, remote.watch.outages) == (True, 1)

    asyncio.run(scene())


def test_whatever_fails_in_a_look_or_in_what_is_heard_the_next_one_comes() -> None:
    async def scene() -> None:
        brokers, heard, fails = Brokers(), Heard(), [True]

        def hear(told: Told) -> None:
            if fails:
                raise RuntimeError(fails.pop())
            heard.append(told)

        async with process() as one:
            one.telling.tell(UP)
            remote = RemoteOwners(brokers.directory, 3)
            remote.start(hear)
            brokers.fails = RuntimeError("a defect")
            async with asyncio.timeout(10):
                assert await remote.watch.looked() is None
            brokers.fails, brokers.owned = None, {one.address: {1}, "no address:\n": {2}}
            await until(lambda: bool(heard))
            assert fails == []
            with pytest.raises(UnavailableError, match="which does not answer"):
                await remote.queries(2).summary()
            await remote.close()

    asyncio.run(scene())


def test_a_listener_that_does_not_keep_up_is_cut_off_and_the_others_are_not() -> None:
    async def scene() -> None:
        telling = Telling()
        quick, slow = telling.listen(), telling.listen()
        for stream in (slow, quick):
            await anext(stream)
        large = [Answer(1, 200, "x" * 1_000_000)]
        for number in range(QUEUED_BYTES_MAX // 1_000_000 + 2):
            telling.tell(Applied(0, number, large))
            await anext(quick)
        heard = [chunk async for chunk in slow]
        assert len(heard) < 20, "it would have gone on with signs of life"
        await quick.aclose()

    asyncio.run(scene())
