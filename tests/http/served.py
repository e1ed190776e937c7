"""The application behind a real server on a real socket, in a thread of the test's process."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvicorn

from coordinator.http.app import create_app

Opens = Callable[[], AbstractAsyncContextManager[Any]]


@contextlib.contextmanager
def served(opens: Opens) -> Iterator[str]:
    """Serve the gateway that `opens` gives, within the server's loop; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    started, failure = threading.Event(), []
    servers: list[uvicorn.Server] = []

    async def run() -> None:
        async with opens() as gateway:
            config = uvicorn.Config(create_app(gateway), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
            servers.append(server)
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag and no event
                await asyncio.sleep(0.005)
            started.set()
            await serving

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    started.wait(30)
    assert not failure, failure
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(30)
        listener.close()
    assert not failure, failure
    assert not thread.is_alive()


def standing(gateway: Any) -> Opens:
    """One that needs no loop to be opened in."""

    @contextlib.asynccontextmanager
    async def opens() -> AsyncIterator[Any]:
        yield gateway

    return opens


def connect(url: str) -> socket.socket:
    """A bare connection."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_head(connection: socket.socket) -> bytes:
    """Up to the empty line behind the headers, or to the end."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = connection.recv(65_536)
        if not more:
            break
        seen += more
    return seen
