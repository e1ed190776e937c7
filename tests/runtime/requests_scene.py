"""A coordinator, whichever role it is of, on a real log among fake partitions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.kafka.log import KafkaLog
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import Entry, Log, Stream
from coordinator.model.messages import (
    Handler,
    Register,
    RequestState,
    ServiceSpec,
    decode_progress,
    decode_request,
    encode,
)
from coordinator.requests import machine
from coordinator.requests.state import Request
from coordinator.requests.view import view
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.requests.faust_role import FaustRole
from coordinator.runtime.requests.port import Requests
from coordinator.runtime.requests.replica import RequestsReplica
from coordinator.runtime.requests.role import RequestsRole
from tests.requests.live_partitions import LivePartitions, fast_clock

PARTITIONS = 3


class Scene:
    """What all have in common. `role` reads; `restart` stops the coordinator and starts it again."""

    log: Log
    live: LivePartitions
    clock: Callable[[], int]
    role: Requests

    def append(self, *events: machine.Event | Register) -> int:
        return self.log.append([Entry(Stream.REQUESTS, 0, encode(event)) for event in events])[-1]

    def records(self, stream: Stream) -> list[bytes]:
        found: list[bytes] = []
        while run := self.log.read(stream, 0, len(found), records_max=10_000, bytes_max=1 << 24):
            found += [record.value for record in run]
        return found

    def end(self, stream: Stream) -> int:
        return self.log.bounds(stream, 0).end

    def until(self, holds: Callable[[], Any], timeout_s: float = 60) -> None:
        ends = time.monotonic() + timeout_s
        while not holds():
            assert self.role.failure is None
            assert self.live.error is None
            assert time.monotonic() < ends, [view(one, self.clock()) for one in self.role.list()]
            time.sleep(0.005)

    def until_read(self) -> None:
        """Until all there is has been read, the coordinator's own words included."""
        self.until(lambda: all(self.role.positions[stream] == self.end(stream) for stream in self.role.positions))

    def restart(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class EmbeddedScene(Scene):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = fast_clock(time.time())
        log = EmbeddedLog.create_or_open(
            path / "log.sqlite", partitions={Stream.COMMANDS: PARTITIONS}, now_us=self.clock
        )
        self.log = log
        self.live = LivePartitions(log, self.clock, 1)
        self._start()

    def _start(self) -> None:
        self._role = RequestsRole(self.log, self.path / "requests.sqlite", self.clock)
        self.role = self._role

    def restart(self) -> None:
        self._role.close()
        self._start()

    def close(self) -> None:
        self._role.close()
        self.live.close()
        self.log.close()


class KafkaScene(Scene):
    """Topics of its own; the role in this process unless `role_here` is false."""

    def __init__(self, bootstrap: str, path: Path, *, role_here: bool = True) -> None:
        self.path = path
        self.clock = wall_clock_us
        self.settings = topics_of_its_own(bootstrap)
        self.log = KafkaLog(self.settings)
        self.live = LivePartitions(self.log, self.clock, 1)
        for partition in self.live.partitions:
            partition.matches_max = 3  # each makes a few records of progress, which go through a real broker here
        self.faust: FaustRole | None = None
        if role_here:
            self.start()
        self.role = self.replica()

    def start(self) -> FaustRole:
        self.faust = FaustRole(self.settings, self.log, self.path / "faust", wall_clock_us)
        return self.faust

    def replica(self) -> RequestsReplica:
        shadowed = (lambda key: None) if self.faust is None else self.faust.repair
        return RequestsReplica(
            self.settings.changelog, self.settings.client(), log=self.log.identity, shadowed=shadowed
        )

    def until_active(self) -> None:
        assert self.faust is not None
        ends = time.monotonic() + 60
        while self.faust.tenure is None:
            assert self.faust.failure is None
            assert time.monotonic() < ends, "the role did not take over"
            time.sleep(0.01)

    def restart(self) -> None:
        if self.faust is not None:
            self.faust.close()
        self.role.close()
        self.start()
        self.role = self.replica()

    def close(self) -> None:
        if self.faust is not None:
            self.faust.close()
        self.role.close()
        self.live.close()
        self.log.close()


def topics_of_its_own(bootstrap: str) -> KafkaSettings:
    """A new set of topics, under a prefix that nobody else has."""
    settings = KafkaSettings(bootstrap, {"topic.prefix": f"t{secrets.token_hex(4)}."})
    create_or_verify(settings, PARTITIONS)
    return settings


def register(deployment: str, *services: str) -> Register:
    handlers = (Handler(name="greet"),)
    return Register(
        deployment=deployment, services=tuple(ServiceSpec(name=name, handlers=handlers) for name in services)
    )


def shown(request: Request) -> tuple[object, ...]:
    """What does not depend on when something was heard or sent."""
    last = view(request, request.submitted_at)
    partitions = [(one.state, one.matched, one.ended, one.members) for one in last.partitions]
    return last.id, last.state, last.settled, last.finished_at, last.refusal, last.matched, last.remaining, partitions


def folded(log: Log, partitions: int) -> dict[str, Request]:
    """The states that the log alone gives, without any role."""
    requests: dict[str, Request] = {}
    for stream, decode in ((Stream.REQUESTS, decode_request), (Stream.PROGRESS, decode_progress)):
        position = 0
        while run := log.read(stream, 0, position, records_max=10_000, bytes_max=1 << 24):
            position = run[-1].position + 1
            for record in run:
                event = decode(record.value)
                if isinstance(event, RequestState | Register):
                    continue
                after, _ = machine.step(requests.get(event.request), event, record.appended_at, partitions)
                if after is not None:
                    requests[event.request] = after
    return requests
