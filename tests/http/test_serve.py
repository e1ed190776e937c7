"""When the server begins to listen."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
import uvicorn

from coordinator.http import serve
from coordinator.http.app import create_app
from coordinator.runtime.serve import Running
from tests.http.stub import StubGateway


class Starting(StubGateway):
    """A system whose one partition is taken over after it was looked for so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def unowned(self) -> list[int]:
        self.looks -= 1
        return [0] if self.looks >= 0 else []

    def end_waiting(self) -> None:
        """Nobody waits."""


@contextlib.contextmanager
def starting(looks: int) -> Iterator[tuple[serve._Server, socket.socket]]:
    gateway = Starting(looks)
    config = uvicorn.Config(create_app(gateway), log_config=None, lifespan="off")  # type: ignore[arg-type]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield serve._Server(config, Running(gateway)), bound  # type: ignore[arg-type]


def listens(bound: socket.socket) -> bool:
    with socket.socket() as client:
        return client.connect_ex(bound.getsockname()) == 0


async def ends_after_it_has_listened(server: serve._Server, bound: socket.socket, serving: asyncio.Task[None]) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    assert listens(bound)
    server.should_exit = True
    await serving


def test_it_listens_once_all_partitions_have_owners() -> None:
    async def scenario(server: serve._Server, bound: socket.socket) -> None:
        serving = asyncio.create_task(server.serve([bound]))
        while server._running.gateway.looks > 0:  # type: ignore[union-attr]
            assert not listens(bound)
            await asyncio.sleep(0.01)
        await ends_after_it_has_listened(server, bound, serving)

    with starting(looks=5) as (server, bound):
        asyncio.run(scenario(server, bound))


def test_what_never_has_an_owner_can_be_asked_why_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: serve._Server, bound: socket.socket) -> None:
        serving = asyncio.create_task(server.serve([bound]))
        await ends_after_it_has_listened(server, bound, serving)

    monkeypatch.setattr(serve, "_OWNERS_S", 0.1)
    with starting(looks=1_000_000) as (server, bound):
        asyncio.run(scenario(server, bound))


def test_a_server_that_is_stopped_before_it_listens_ends() -> None:
    async def scenario(server: serve._Server, bound: socket.socket) -> None:
        serving = asyncio.create_task(server.serve([bound]))
        await asyncio.sleep(0.1)
        server.should_exit = True
        await asyncio.wait_for(serving, 5)
        assert not listens(bound)

    with starting(looks=1_000_000) as (server, bound):
        asyncio.run(scenario(server, bound))
