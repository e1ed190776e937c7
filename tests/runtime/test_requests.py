"""The coordinator role over the real embedded log, among fake partitions; time runs faster than the wall's."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.logs.remote import LogServer, RemoteLog
from coordinator.model import limits
from coordinator.model.errors import CorruptionError
from coordinator.model.filters import Filter
from coordinator.model.messages import (
    DeadLetter,
    Guard,
    Handler,
    Lapse,
    Progress,
    Register,
    RequestControl,
    RequestState,
    ServiceSpec,
    Tally,
    decode_dead_letter,
    decode_progress,
    decode_request,
    encode,
)
from coordinator.requests import lifecycle, machine
from coordinator.requests.state import Request
from coordinator.requests.view import view
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.requests.role import RequestsRole
from coordinator.stores.lock import StoreInUseError
from tests.requests.live_partitions import LivePartitions, fast_clock
from tests.requests.world import TIMES, submit

PARTITIONS = 3
REQUESTS = 12
"""In the tests that stop the role again and again; more of them make those longer."""
ROOT = Path(__file__).parents[2]


def progress(tally: Tally | None = None) -> Progress:
    return Progress(
        request="r1", partition=0, number=1, state="running", position=0, revision=0, at=0, tally=tally or Tally()
    )


class Scene:
    """A log, fake partitions on it, and the role, which can be started and stopped."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self.since_s = time.time()
        self.clock = fast_clock(self.since_s)
        self.log = EmbeddedLog.create_or_open(
            path / "log.sqlite", partitions={Stream.COMMANDS: PARTITIONS}, now_us=self.clock
        )
        self.live = LivePartitions(self.log, self.clock, seed)
        self._role: RequestsRole | None = None

    def start(self, log: Log | None = None, clock: Callable[[], int] | None = None) -> RequestsRole:
        self._role = RequestsRole(log or self.log, self.path / "requests.sqlite", clock or self.clock)
        return self._role

    @property
    def role(self) -> RequestsRole:
        return self._role or self.start()

    def restart(self) -> None:
        self.role.close()
        self.start()

    def append(self, *events: machine.Event | Register) -> int:
        return self.log.append([Entry(Stream.REQUESTS, 0, encode(event)) for event in events])[-1]

    def records(self, stream: Stream) -> list[bytes]:
        return [one.value for one in self.log.read(stream, 0, 0, records_max=1 << 20, bytes_max=1 << 30)]

    def close(self) -> None:
        if self._role is not None:
            self._role.close()
        self.live.close()
        self.log.close()

    def until(self, holds: Callable[[], Any], timeout_s: float = 30) -> None:
        ends = time.monotonic() + timeout_s
        while not holds():
            assert self.role.failure is None
            assert self.live.error is None
            assert time.monotonic() < ends, [view(one, self.clock()) for one in self.role.list()]
            time.sleep(0.002)

    def until_all_ended(self) -> None:
        self.until(lambda: self.role.active_count == 0 and len(self.role.list()) > 0)

    def until_read(self) -> None:
        """Until the role has read all there is, its own words included."""
        self.until(lambda: all(self.role.positions[stream] == self.end(stream) for stream in self.role.positions))

    def until_the_log_agrees(self) -> None:
        """Until all has ended, and the role's states are those that the log gives."""
        self.until(lambda: len(self.role.list()) == REQUESTS)
        self.until_all_ended()
        self.until_read()
        self.until(self._shows_what_the_log_gives)  # a last word of a partition may come between the two looks

    def _shows_what_the_log_gives(self) -> bool:
        mine = {request.id: shown(request) for request in self.role.list()}
        return mine == {id: shown(request) for id, request in folded(self).items()}

    def end(self, stream: Stream) -> int:
        return self.log.bounds(stream, 0).end


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def shown(request: Request) -> tuple[object, ...]:
    """What does not depend on when something was heard or sent."""
    last = view(request, request.submitted_at)
    partitions = [(one.state, one.matched, one.ended, one.members) for one in last.partitions]
    return last.id, last.state, last.settled, last.finished_at, last.refusal, last.matched, last.remaining, partitions


def folded(scene: Scene) -> dict[str, Request]:
    """The states that the log alone gives, without the role."""
    requests: dict[str, Request] = {}
    for stream, decode in ((Stream.REQUESTS, decode_request), (Stream.PROGRESS, decode_progress)):
        for record in scene.log.read(stream, 0, 0, records_max=1 << 20, bytes_max=1 << 30):
            event = decode(record.value)
            if isinstance(event, RequestState):
                continue
            after, _ = machine.step(requests.get(event.request), event, record.appended_at, PARTITIONS)
            if after is not None:
                requests[event.request] = after
    return requests


# -- deployments ---------------------------------------------------------------------------------------------


def register(deployment: str, *services: str) -> Register:
    handlers = (Handler(name="greet"),)
    return Register(
        deployment=deployment, services=tuple(ServiceSpec(name=name, handlers=handlers) for name in services)
    )


def test_deployments_are_known_in_their_order_also_after_a_restart(scene: Scene) -> None:
    told: list[int] = []
    role = scene.role
    role.subscribe_deployments(lambda: told.append(len(role.deployments().deployments)))
    events = register("dp_1", "Greeter", "Namer"), register("dp_2", "Greeter"), register("dp_1", "Greeter", "Namer")
    for event in events:
        assert scene.role.wait_applied(scene.append(event), 5)
    assert told == [1, 2]
    for _ in range(2):
        registry = scene.role.deployments()
        assert [deployment.id for deployment in registry.deployments] == ["dp_1", "dp_2"]
        assert {name: found.deployment.id for name, found in registry.latest.items()} == {
            "Greeter": "dp_2",
            "Namer": "dp_1",
        }
        scene.restart()


def test_other_services_under_an_id_change_nothing(scene: Scene) -> None:
    for event in (register("dp_1", "Greeter"), register("dp_1", "Other")):
        assert scene.role.wait_applied(scene.append(event), 5)
    assert list(scene.role.deployments().latest) == ["Greeter"]


def test_a_registration_that_cannot_be_meant_so_becomes_a_dead_letter(scene: Scene) -> None:
    bad = register("dp_1"), register("", "Greeter"), register("dp_1", "x" * 257), register("dp_1", "A", "A")
    for event in bad:
        position = scene.append(event)
    assert scene.role.wait_applied(position, 5)
    assert scene.role.deployments().deployments == ()
    scene.until(lambda: len(scene.records(Stream.DEAD_LETTERS)) == len(bad))
    letters = [decode_dead_letter(value) for value in scene.records(Stream.DEAD_LETTERS)]
    assert [letter.value for letter in letters] == [encode(event) for event in bad]


# -- the ordinary life ---------------------------------------------------------------------------------------


def test_a_request_goes_through_to_its_end(scene: Scene) -> None:
    heard: list[str] = []
    scene.role.subscribe(heard.append)
    assert scene.role.get("r1") is None
    position = scene.append(submit())
    assert scene.role.wait_applied(position, 5)
    assert scene.role.get("r1") is not None
    assert scene.role.active_count == 1
    scene.until_all_ended()
    request = scene.role.get("r1")
    assert request is not None
    assert lifecycle.state(request) in (lifecycle.State.COMPLETED, lifecycle.State.COMPLETED_WITH_FAILURES)
    assert set(heard) == {"r1"}


def test_what_it_tells_is_numbered_and_ends_with_the_end(scene: Scene) -> None:
    scene.role  # noqa: B018  started
    scene.append(submit())
    scene.until(lambda: (request := scene.role.get("r1")) is not None and lifecycle.settled(request))
    scene.until_read()

    def told() -> list[RequestState]:
        every = [decode_progress(value) for value in scene.records(Stream.PROGRESS)]
        return [one for one in every if isinstance(one, RequestState)]

    scene.until(lambda: told()[-1].settled)
    assert [one.number for one in told()] == list(range(1, len(told()) + 1))


def test_requests_are_listed_the_last_submitted_first(scene: Scene) -> None:
    for number in range(5):
        position = scene.append(submit(f"r{number}"))
        assert scene.role.wait_applied(position, 5)
        time.sleep(0.001)
    assert [request.id for request in scene.role.list()] == ["r4", "r3", "r2", "r1", "r0"]


def test_a_guard_is_decided_on_the_log(scene: Scene) -> None:
    scene.role  # noqa: B018  started
    scene.append(submit("no", guard=Guard(expect=10_000)), submit("yes", guard=Guard(max=10_000)))
    scene.until(lambda: len(scene.role.list()) == 2)
    scene.until_all_ended()
    states = {request.id: lifecycle.state(request).value for request in scene.role.list()}
    assert states["no"] == "refused"
    assert states["yes"] in ("completed", "completed-with-failures")


def test_waiting_for_what_is_not_there_ends_with_the_time(scene: Scene) -> None:
    assert not scene.role.wait_applied(10, 0.05)


def test_a_partition_that_was_away_gets_what_it_missed(scene: Scene) -> None:
    scene.live.gone.add(1)
    scene.role  # noqa: B018  started
    scene.append(submit())
    scene.until(lambda: scene.role.list() and view(scene.role.list()[0], scene.clock()).stalled == (1,))
    scene.live.gone.clear()
    scene.until_all_ended()


def test_there_is_at_most_one_lapse_outstanding(scene: Scene) -> None:
    """Also where the log stands still: the clock of the role runs on, the lapse does not come back."""
    scene.live.gone.update(range(PARTITIONS))
    flaky = Flaky(scene.log)
    role = scene.start(flaky)
    position = scene.append(submit())
    assert role.wait_applied(position, 5)
    flaky.stuck = True
    flaky.tried.clear()
    time.sleep(0.5)
    lapses = [one for entries in flaky.tried for one in entries if one.stream is Stream.REQUESTS]
    assert [type(decode_request(one.value)) for one in lapses] == [Lapse]


def test_requests_that_nobody_can_ask_for_any_more_are_forgotten(scene: Scene) -> None:
    ahead = [0]
    role = scene.start(clock=lambda: scene.clock() + ahead[0])
    scene.append(submit())
    scene.until_all_ended()
    scene.until_read()
    ahead[0] = limits.NOT_AFTER_US + limits.REMEMBERED_US
    role.wake()
    scene.until(lambda: role.get("r1") is None)
    role.close()
    assert scene.start().list() == []


# -- faults --------------------------------------------------------------------------------------------------


class Flaky:
    """A log whose appends fail at random, with and without having appended."""

    def __init__(self, log: EmbeddedLog, seed: int = 0) -> None:
        self._log = log
        self._rng = random.Random(seed)
        self.failing = 0.0
        self.stuck = False
        """Whether appends neither fail nor succeed."""
        self.tried: list[list[Entry]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, entries: list[Entry]) -> Future[list[int]]:
        self.tried.append(list(entries))
        future: Future[list[int]] = Future()
        if self.stuck:
            return future
        if self._rng.random() >= self.failing:
            return self._log.submit(entries)
        if self._rng.random() < 0.5:
            self._log.append(entries)
        if self._rng.random() < 0.3:
            raise LogError("the append failed at once")
        future.set_exception(LogError("the append failed"))
        return future


def test_nothing_is_lost_when_appends_fail(scene: Scene) -> None:
    flaky = Flaky(scene.log)
    flaky.failing = 0.5
    scene.start(flaky)
    for number in range(10):
        scene.append(submit(f"r{number}", guard=Guard(max=1000) if number % 2 else None))
    scene.until(lambda: len(scene.role.list()) == 10)
    scene.until_all_ended()


def test_a_file_that_cannot_be_written_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import apsw

    role = scene.role
    put = role._file._put
    failures = iter(range(3))

    def failing(*arguments: Any) -> None:
        if next(failures, None) is not None:
            raise apsw.FullError("database or disk is full")
        put(*arguments)

    monkeypatch.setattr(role._file, "_put", failing)
    assert role.wait_applied(scene.append(submit()), 5)
    assert role.failure is None


def test_what_cannot_be_read_is_kept_as_a_dead_letter_and_the_rest_goes_on(scene: Scene) -> None:
    bad = [
        b"\xc1",
        encode(Lapse(request="r1", v=99)),
        encode(progress()),
        encode(submit("big", reason="x" * limits.REQUEST_RECORD_BYTES_MAX)),
        b"\x91" * 600_000,
    ]
    positions = scene.log.append([Entry(Stream.REQUESTS, 0, value) for value in bad])
    scene.log.append([Entry(Stream.PROGRESS, 0, b"{}")])
    scene.role  # noqa: B018  started
    scene.append(submit())
    scene.until_all_ended()
    scene.until(lambda: len(scene.records(Stream.DEAD_LETTERS)) == len(bad) + 1)
    letters: list[DeadLetter] = [decode_dead_letter(value) for value in scene.records(Stream.DEAD_LETTERS)]
    assert [letter.position for letter in letters[:-1]] == positions
    assert [letter.value for letter in letters[:-1]] == [value[: limits.RECORD_BYTES_MAX] for value in bad]
    says = ["it is not a message", "schema version 99", "kind 48", "bytes", "bytes", "it is not a message"]
    assert [letter.stream for letter in letters] == [Stream.REQUESTS] * len(bad) + [Stream.PROGRESS]
    assert [part in letter.reason for part, letter in zip(says, letters, strict=True)] == [True] * len(says)
    assert [request.id for request in scene.role.list()] == ["r1"]


def test_progress_that_contradicts_itself_stops_it_loudly_and_changes_nothing(scene: Scene) -> None:
    role = scene.role
    scene.live.gone.update(range(PARTITIONS))
    assert role.wait_applied(scene.append(submit()), 5)
    scene.log.append([Entry(Stream.PROGRESS, 0, encode(progress(tally=Tally(matched=2, ended=1))))])
    ends = time.monotonic() + 5
    while role.failure is None:
        assert time.monotonic() < ends
        time.sleep(0.002)
    assert isinstance(role.failure, CorruptionError)
    assert role.get("r1") is not None
    with pytest.raises(UnavailableError, match="do not add up"):
        role.wait_applied(10, 5)


def test_a_subscriber_that_fails_harms_nobody(scene: Scene) -> None:
    heard: list[str] = []

    def failing(request_id: str) -> None:
        raise ValueError(request_id)

    scene.role.subscribe(failing)
    end = scene.role.subscribe(heard.append)
    scene.append(submit())
    scene.until_all_ended()
    assert heard
    end()
    count = len(heard)
    scene.append(submit("r2"))
    scene.until_all_ended()
    assert len(heard) == count


# -- starting again ------------------------------------------------------------------------------------------


def test_only_one_coordinator_has_the_file(scene: Scene) -> None:
    scene.role  # noqa: B018  started
    with pytest.raises(StoreInUseError):
        RequestsRole(scene.log, scene.path / "requests.sqlite", scene.clock)


def test_a_file_of_another_log_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.role.close()
    with (
        EmbeddedLogOf(tmp_path / "other.sqlite", PARTITIONS) as other,
        pytest.raises(CorruptionError, match="was made from log"),
    ):
        RequestsRole(other, scene.path / "requests.sqlite", scene.clock)
    scene.start()


class EmbeddedLogOf:
    def __init__(self, path: Path, partitions: int) -> None:
        self.log = EmbeddedLog.create_or_open(path, partitions={Stream.COMMANDS: partitions})

    def __enter__(self) -> EmbeddedLog:
        return self.log

    def __exit__(self, *error: object) -> None:
        self.log.close()


def test_a_log_that_was_trimmed_too_far_is_refused(scene: Scene) -> None:
    scene.role.close()
    scene.append(submit("r1"))
    position = scene.append(submit("r2"))
    scene.log.trim(Stream.REQUESTS, 0, position)
    with pytest.raises(CorruptionError, match="was trimmed"):
        scene.start()
    scene._role = None


def test_a_log_that_has_lost_records_is_refused(scene: Scene, tmp_path: Path) -> None:
    assert scene.role.wait_applied(scene.append(submit()), 5)
    scene.role.close()
    scene._role = None
    shorter = Shorter(scene.log)
    with pytest.raises(CorruptionError, match="has lost records"):
        scene.start(shorter)
    scene._role = None


class Shorter:
    """The log without its last records."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def bounds(self, stream: Stream, partition: int) -> Any:
        return self._log.bounds(stream, partition)._replace(end=0)


def test_effects_that_were_not_published_are_after_a_restart(scene: Scene) -> None:
    """No timer is needed for that: the clock of the role stands still."""
    stuck = Flaky(scene.log)
    stuck.stuck = True
    role = scene.start(stuck, clock=lambda: 0)
    assert role.wait_applied(scene.append(submit()), 5)
    role.close()
    assert scene.records(Stream.PROGRESS) == []
    scene.start(clock=lambda: 0)
    scene.until_all_ended()


def meddle(scene: Scene, rng: random.Random, requests: int) -> None:
    """Submissions and controls of operators who do not wait for one another."""
    for number in range(requests):
        guard = rng.choice([None, None, Guard(max=rng.randint(0, 40))])
        scene.append(submit(f"r{number}", guard=guard, filter=Filter(service=f"S{number}")))
    for _ in range(rng.randint(0, 8)):
        change: dict[str, Any] = rng.choice([{"paused": True}, {"rate": 5}, {"aborted": True}])
        scene.append(RequestControl(request=f"r{rng.randrange(requests)}", **change))
        time.sleep(rng.random() / 100)
    scene.append(*(RequestControl(request=f"r{number}", paused=False) for number in range(requests)))


@pytest.mark.parametrize("seed", range(6 * TIMES))
def test_restarts_at_any_point_lead_to_the_states_that_the_log_gives(tmp_path: Path, seed: int) -> None:
    scene, rng = Scene(tmp_path, seed), random.Random(seed)
    meddling = threading.Thread(target=meddle, args=(scene, random.Random(seed), REQUESTS))
    meddling.start()
    restarts = 0
    while meddling.is_alive() or scene.role.active_count or not scene.role.list():
        time.sleep(rng.random() / 150)
        scene.restart()
        restarts += 1
    scene.until_the_log_agrees()
    scene.close()
    assert restarts > 5


@pytest.mark.parametrize("seed", range(2 * TIMES))
def test_being_killed_at_any_point_leads_to_the_states_that_the_log_gives(tmp_path: Path, seed: int) -> None:
    scene, rng = Scene(tmp_path, seed), random.Random(seed)
    server = LogServer(scene.log)
    meddling = threading.Thread(target=meddle, args=(scene, random.Random(seed), REQUESTS))
    meddling.start()
    for _ in range(6):
        ours, theirs = socket.socketpair()
        server.attach(ours)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.test_requests", tmp_path, str(theirs.fileno()), str(scene.since_s)],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        ) as process:
            theirs.close()
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            time.sleep(rng.random() / 30)
            process.send_signal(signal.SIGKILL)
    meddling.join()
    server.close()
    scene.until_the_log_agrees()
    scene.close()


def run_until_killed(path: str, descriptor: str, since_s: str) -> None:
    """The role in a process of its own, on the log of the test's."""
    log = RemoteLog(Path(path) / "log.sqlite", socket.socket(fileno=int(descriptor)), on_gone=lambda: os._exit(3))
    role = RequestsRole(log, Path(path) / "requests.sqlite", fast_clock(float(since_s)))
    print("started", flush=True)
    while role.failure is None:
        time.sleep(0.01)
    os._exit(1)


if __name__ == "__main__":
    run_until_killed(*sys.argv[1:])
