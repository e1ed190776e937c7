"""What every reading side of the coordinator does: the role on the embedded log, and the replica of the one on Kafka.

One coordinator serves all the tests here, so each has names of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from coordinator.logs.port import Entry, Stream
from coordinator.model.messages import Guard, RequestState, decode_dead_letter, decode_progress
from coordinator.requests import lifecycle
from tests.requests.world import submit
from tests.runtime.requests_scene import EmbeddedScene, KafkaScene, Scene, register


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    path = tmp_path_factory.mktemp("requests")
    made = EmbeddedScene(path) if request.param == "embedded" else KafkaScene(request.getfixturevalue("kafka"), path)
    yield made
    made.close()


@pytest.fixture
def id() -> str:
    return f"r-{secrets.token_hex(4)}"


def until_ended(scene: Scene, *ids: str) -> None:
    def ended() -> bool:
        found = [scene.role.get(id) for id in ids]
        return all(request is not None and lifecycle.ended(request) for request in found)

    scene.until(ended)


def test_a_request_is_known_once_its_submission_is_applied_and_goes_through_to_its_end(scene: Scene, id: str) -> None:
    heard: list[str] = []
    end = scene.role.subscribe(heard.append)
    assert scene.role.get(id) is None
    assert scene.role.wait_applied(scene.append(submit(id)), 60)
    assert scene.role.get(id) is not None
    until_ended(scene, id)
    request = scene.role.get(id)
    assert request is not None
    assert lifecycle.state(request) in (lifecycle.State.COMPLETED, lifecycle.State.COMPLETED_WITH_FAILURES)
    scene.until(lambda: id in heard)
    end()


def test_requests_are_listed_the_last_submitted_first(scene: Scene, id: str) -> None:
    mine = [f"{id}-{number}" for number in range(4)]
    for one in mine:
        assert scene.role.wait_applied(scene.append(submit(one)), 60)
    times = [request.submitted_at for request in scene.role.list()]
    assert times == sorted(times, reverse=True)
    assert {request.id for request in scene.role.list()} >= set(mine)


def test_what_is_not_over_is_counted_as_active(scene: Scene, id: str) -> None:
    scene.until(lambda: scene.role.active_count == 0)
    scene.live.gone.add(1)
    try:
        assert scene.role.wait_applied(scene.append(submit(id)), 60)
        assert scene.role.active_count == 1
    finally:
        scene.live.gone.clear()
    until_ended(scene, id)
    scene.until(lambda: scene.role.active_count == 0)


def test_a_guard_is_decided_on_the_log(scene: Scene, id: str) -> None:
    no, yes = f"{id}-no", f"{id}-yes"
    scene.append(submit(no, guard=Guard(expect=10_000)), submit(yes, guard=Guard(max=10_000)))
    until_ended(scene, no, yes)
    states = [lifecycle.state(request).value for request in map(scene.role.get, (no, yes)) if request is not None]
    assert states[0] == "refused"
    assert states[1] in ("completed", "completed-with-failures")


def test_waiting_for_what_is_not_there_ends_with_the_time(scene: Scene) -> None:
    assert not scene.role.wait_applied(1_000_000, 0.05)


def test_an_event_loop_waits_for_the_record_that_was_meant(scene: Scene, id: str) -> None:
    async def wait() -> None:
        position = await asyncio.to_thread(scene.append, submit(id))
        beyond = asyncio.wrap_future(scene.role.applied(position + 1_000_000))
        await asyncio.wrap_future(scene.role.applied(position))
        assert scene.role.get(id) is not None
        assert not beyond.done()
        beyond.cancel()

    asyncio.run(wait())
    until_ended(scene, id)


def test_what_it_tells_is_numbered_and_ends_with_the_end(scene: Scene, id: str) -> None:
    scene.append(submit(id))

    def told() -> list[RequestState]:
        every = [decode_progress(value) for value in scene.records(Stream.PROGRESS)]
        return [one for one in every if isinstance(one, RequestState) and one.request == id]

    scene.until(lambda: (last := told()) and last[-1].settled)
    assert [one.number for one in told()] == list(range(1, len(told()) + 1))


def test_deployments_are_known_in_their_order_and_whoever_wants_to_know_is_told(scene: Scene, id: str) -> None:
    told: list[int] = []
    role = scene.role
    before = len(role.deployments().deployments)
    end = role.subscribe_deployments(lambda: told.append(len(role.deployments().deployments) - before))
    first, second, service = f"{id}-1", f"{id}-2", f"Greeter-{id}"
    for event in (register(first, service), register(second, service), register(first, service), register(first, "X")):
        assert role.wait_applied(scene.append(event), 60)
    registry = role.deployments()
    assert [deployment.id for deployment in registry.deployments[before:]] == [first, second]
    assert registry.latest[service].deployment.id == second
    scene.until(lambda: told == [1, 2])
    end()
    assert role.wait_applied(scene.append(register(f"{id}-3", service)), 60)
    assert told == [1, 2], "nobody is told after the end"


def test_poison_becomes_a_dead_letter_and_everything_goes_on(scene: Scene, id: str) -> None:
    before = len(scene.records(Stream.DEAD_LETTERS))
    bad = [b"\xc1", b"", b"\x91" * 70_000, b"{}"]
    [*positions, on_progress] = scene.log.append(
        [*(Entry(Stream.REQUESTS, 0, value) for value in bad), Entry(Stream.PROGRESS, 0, b"\xc1")]
    )
    scene.append(submit(id), register("", "Greeter"))
    until_ended(scene, id)
    scene.until(lambda: scene.role.positions[Stream.PROGRESS] > on_progress)
    scene.until(lambda: len(scene.records(Stream.DEAD_LETTERS)) == before + len(bad) + 2)
    letters = [decode_dead_letter(value) for value in scene.records(Stream.DEAD_LETTERS)[before:]]
    found = sorted((letter.stream, letter.position, letter.value) for letter in letters)
    assert (Stream.PROGRESS, on_progress, b"\xc1") in found
    assert [one for one in zip([Stream.REQUESTS] * len(bad), positions, bad, strict=True) if one not in found] == []
    assert scene.role.failure is None


def test_a_subscriber_that_fails_harms_nobody_and_one_that_left_hears_nothing(scene: Scene, id: str) -> None:
    heard: list[str] = []

    def failing(request_id: str) -> None:
        raise ValueError(request_id)

    ends = [scene.role.subscribe(failing), scene.role.subscribe(heard.append)]
    scene.append(submit(id))
    until_ended(scene, id)
    scene.until(lambda: id in heard)
    for end in ends:
        end()
    scene.append(submit(f"{id}-2"))
    until_ended(scene, f"{id}-2")
    assert f"{id}-2" not in heard


def test_a_restart_forgets_nothing(scene: Scene, id: str) -> None:
    scene.append(submit(id), register(f"dp-{id}", "Greeter"))
    until_ended(scene, id)
    scene.until_read()
    requests = [request.id for request in scene.role.list()]
    deployments = scene.role.deployments().deployments
    scene.restart()
    assert [request.id for request in scene.role.list()] == requests
    assert scene.role.deployments().deployments == deployments
    assert scene.role.wait_applied(scene.append(submit(f"{id}-2")), 60)
