"""Following a batch: through broken streams, to its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordinator import Client
from coordinator.client import NotFoundError, Progress, UnreachableError
from coordinator.client.http_batches import event_data
from tests.client.fake_server import FakeServer, Say, batch

EVENTS = "/batches/b1/events"


def followed(fake: FakeServer, patience_s: float = 5.0) -> list[Progress]:
    fake.on("GET", "/batches/b1", Say(200, batch()))

    async def whole() -> list[Progress]:
        async with Client(fake.url, patience_s=patience_s) as client:
            one = await client.batch("b1")
            return [progress async for progress in one.progress()]

    return asyncio.run(whole())


@pytest.mark.parametrize("state", ["completed", "completed-with-failures", "refused", "aborted"])
def test_progress_ends_where_the_batch_does(fake: FakeServer, state: str) -> None:
    fake.on("GET", EVENTS, Say(events=[batch(matched=1), batch(matched=2), batch(state, matched=3), batch(matched=9)]))
    seen = followed(fake)
    assert [progress.matched for progress in seen] == [1, 2, 3]
    assert [progress.over for progress in seen] == [False, False, True]


def test_progress_goes_on_until_what_was_sent_to_other_partitions_has_arrived(fake: FakeServer) -> None:
    ends = [batch("completed", propagated=n, settled=n > 1) for n in range(4)]
    fake.on("GET", EVENTS, Say(events=ends))
    assert [progress.propagated for progress in followed(fake)] == [0, 1, 2]


def test_what_the_server_waits_for_no_longer_nobody_waits_for(fake: FakeServer) -> None:
    fake.on("GET", EVENTS, Say(events=[batch("completed", settled=False)]))
    assert [progress.over for progress in followed(fake)] == [True]
    assert len(fake.asked_for("GET", EVENTS)) == 1


def test_a_stream_that_breaks_is_opened_again_and_repeats_are_left_out(fake: FakeServer) -> None:
    fake.on(
        "GET",
        EVENTS,
        Say(events=[batch(matched=1)], cut=True),
        Say(503, {"detail": "the server is starting"}),
        Say(events=[batch(matched=1), batch("completed", matched=2)]),
    )
    assert [progress.matched for progress in followed(fake)] == [1, 2]
    assert len(fake.asked_for("GET", EVENTS)) == 3


def test_a_stream_that_ends_before_the_batch_does_is_opened_again(fake: FakeServer) -> None:
    fake.on("GET", EVENTS, Say(events=[batch(matched=1)]), Say(events=[batch("completed", matched=2)]))
    assert [progress.matched for progress in followed(fake)] == [1, 2]


def test_a_server_that_stays_away_ends_the_patience(fake: FakeServer) -> None:
    fake.on("GET", EVENTS, Say(events=[batch(matched=1)], cut=True), Say(503, {"detail": "no owner"}))
    with pytest.raises(UnreachableError, match="no owner"):
        followed(fake, patience_s=0.3)
    assert len(fake.asked_for("GET", EVENTS)) >= 2


def test_a_batch_that_is_not_there_is_no_reason_to_wait(fake: FakeServer) -> None:
    fake.on("GET", EVENTS, Say(404, {"detail": "there is no batch b1"}))
    with pytest.raises(NotFoundError, match="there is no batch b1"):
        followed(fake)


def test_waiting_gives_the_end(fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch()))
    fake.on("GET", EVENTS, Say(events=[batch(matched=1), batch("completed", matched=2)]))

    async def whole() -> Progress:
        async with Client(fake.url) as client:
            return await (await client.batch("b1")).wait()

    assert asyncio.run(whole()).state == "completed"


def test_events_may_have_several_lines_of_data_and_none() -> None:
    async def lines() -> AsyncIterator[str]:
        for line in ["retry: 5", "", "data: one", "data:two", ": comment", "", "event: x", "", "data: cut off"]:
            yield line

    async def read() -> list[str]:
        return [data async for data in event_data(lines())]

    assert asyncio.run(read()) == ["one\ntwo"]
