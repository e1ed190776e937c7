"""Watching a batch: the stream of its states, its silence, its end, and who hangs up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from coordinator.http.events import Event, frames
from tests.http.surface import Surface

KILL = b'{"request_id": "r1", "action": "kill", "filter": {"all": true}, "reason": "test"}'


def submitted() -> Surface:
    at = Surface()
    at("POST", "/batches", content=KILL)
    return at


def events(text: str) -> list[tuple[str, Any]]:
    """(id, data) of each event."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["id"], msgspec.json.decode(fields["data"])))
    return found


def test_a_batch_is_told_as_it_stands_and_on_each_change() -> None:
    at = submitted()
    batch = at.gateway.batches.get("r1")
    at.gateway.batches.states = [msgspec.structs.replace(batch, state=state) for state in ("running", "completed")]
    response = at("GET", "/batches/r1/events")
    told = events(response.text)
    assert [data["state"] for _, data in told] == ["accepted", "running", "completed"]
    assert told[0][1] == at("GET", "/batches/r1").json()
    assert len({id for id, _ in told}) == 3
    assert response.headers["cache-control"] == "no-cache"


def test_who_has_seen_the_end_is_told_not_to_come_again() -> None:
    at = submitted()
    at.gateway.batches.change("r1", state="completed", settled=True)
    [(id, _)] = events(at("GET", "/batches/r1/events").text)
    assert at("GET", "/batches/r1/events", headers={"Last-Event-ID": id}).status_code == 204
    assert at("GET", "/batches/r1/events", headers={"Last-Event-ID": "other"}).status_code == 200


def test_who_has_seen_a_batch_that_runs_still_watches_it() -> None:
    at = submitted()
    [(id, _)] = events(at("GET", "/batches/r1/events").text)
    assert at("GET", "/batches/r1/events", headers={"Last-Event-ID": id}).status_code == 200


def test_silence_is_filled_with_comments_and_loses_nothing() -> None:
    async def states() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.1)
        yield 2

    async def scenario() -> list[bytes]:
        made = frames(states(), lambda state: Event(str(state), b"%d" % state), keep_alive_s=0.03)
        return [frame async for frame in made]

    told = asyncio.run(scenario())
    assert told[0] == b"id: 1\ndata: 1\n\n"
    assert told[-1] == b"id: 2\ndata: 2\n\n"
    assert set(told[1:-1]) == {b": keep-alive\n\n"}


def test_a_watch_ends_with_its_watcher() -> None:
    async def scenario(hang_up_while_waiting: bool) -> list[str]:
        log = []

        async def states() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.sleep(60)
                yield 2
            finally:
                log.append("ended")

        made = frames(states(), lambda state: Event(str(state), b""), keep_alive_s=0.01)
        await anext(made)
        if hang_up_while_waiting:
            await anext(made)
        await made.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        return log

    assert asyncio.run(scenario(False)) == ["ended"]
    assert asyncio.run(scenario(True)) == ["ended"]
