"""Members of a group as a test has them: real sockets and streams, and a directory that says what it is told to say."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import uvicorn

from coordinator.http.app import create_app
from coordinator.runtime.group.directory import Directory, Member
from coordinator.runtime.group.owned import NotOwnedError
from coordinator.runtime.group.telling import Telling
from coordinator.runtime.group.worker import Worker


class Brokers:
    """A directory."""

    def __init__(self) -> None:
        self.owned: dict[str, set[int]] = {}
        """By address."""
        self.fails: Exception | None = None
        self.rebalancing = False

    async def members(self) -> list[Member] | None:
        if self.fails is not None:
            raise self.fails
        if self.rebalancing:
            return None
        return [Member(address, frozenset(partitions)) for address, partitions in self.owned.items()]

    async def close(self) -> None:
        pass

    @property
    def directory(self) -> Directory:
        return cast(Directory, self)


class Process:
    """What answers behind the internal routes: a worker over a dict of answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.telling = Telling()
        self.asked: list[tuple[int, Any]] = []
        self.answers: dict[int, Any] = {}
        """By partition; an exception is raised."""

    def told(self) -> Any:
        return self.telling.listen()

    async def answer(self, partition: int, asked: Any) -> Any:
        self.asked.append((partition, asked))
        if partition not in self.answers:
            raise NotOwnedError(f"partition {partition} is not owned here")
        if isinstance(self.answers[partition], Exception):
            raise self.answers[partition]
        return self.answers[partition]

    def unready(self) -> list[str]:
        return []


@contextlib.asynccontextmanager
async def process() -> AsyncIterator[Process]:
    """A process with the partitions role, in this event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Process(f"127.0.0.1:{listener.getsockname()[1]}")
        app = create_app(None, cast(Worker, one), public=False)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign] # they are pytest's
        serving = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has a flag and no event
                await asyncio.sleep(0.005)
            yield one
        finally:
            one.telling.end()
            server.should_exit = True
            await serving
