"""The routes of participants over real sockets, in front of the dispatcher of `dispatcher`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn

from coordinator.model.errors import ConflictError, NotFoundError
from coordinator.model.messages import Handler, ServiceSpec
from coordinator.model.times import parse_duration
from tests.participant.dispatcher import Dispatcher

TYPES = {"service": 0, "object": 1, "workflow": 2}


class Server:
    """See above. What it was asked, and what it is to answer instead, a test may look at and set."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.url = ""
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.instead: list[tuple[str, int, Any]] = []
        """The next requests whose path ends so get this status and body."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        config = uvicorn.Config(
            self._app, port=0, interface="asgi3", log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        sockets = [config.bind_socket()]
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        task = asyncio.create_task(server._serve(sockets))
        try:
            yield self
        finally:
            server.should_exit = True
            self.dispatcher.break_streams()
            await task

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        method, path = scope["method"], scope["path"]
        self.asked.append((method, path))
        self.tokens |= {value.decode() for name, value in scope["headers"] if name == b"authorization"}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        for told in self.instead:
            if path.endswith(told[0]):
                self.instead.remove(told)
                await _answer(send, told[1], json.dumps(told[2]).encode())
                return
        try:
            await self._route(method, path.split("/")[1:], body, send)
        except NotFoundError as error:
            await _answer(send, 404, json.dumps({"detail": str(error)}).encode())
        except ConflictError as error:
            await _answer(send, 409, json.dumps({"detail": str(error)}).encode())

    async def _route(self, method: str, path: list[str], body: bytes, send: Any) -> None:
        match method, *path:
            case "POST", "deployments":
                asked = json.loads(body)
                await self.dispatcher.register(asked["id"], tuple(map(_spec, asked["services"])))
                await _answer(send, 201, b"{}")
            case "POST", "sessions":
                asked = json.loads(body)
                id, lease_s = await self.dispatcher.open(asked["deployment"], asked["capacity"])
                await _answer(send, 201, json.dumps({"id": id, "lease_s": lease_s}).encode())
            case "GET", "sessions", id, "deliveries":
                await self._stream(id, send)
            case "POST", "sessions", id, "reports":
                await _answer(send, 200, msgspec.msgpack.encode(await self.dispatcher.report(id, body)))
            case "DELETE", "sessions", id:
                await self.dispatcher.leave(id)
                await _answer(send, 204, b"")
            case _:
                await _answer(send, 404, b"{}")

    async def _stream(self, id: str, send: Any) -> None:
        chunks = self.dispatcher.deliveries(id)
        first = await anext(chunks)  # nothing is sent yet, so that its error can be answered
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        with contextlib.suppress(Exception):  # whatever ends it, the connection shows
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _spec(asked: Any) -> ServiceSpec:
    retentions = {name: parse_duration(text) for name, text in asked.items() if name.endswith("retention")}
    handlers = tuple(Handler(**handler) for handler in asked["handlers"])
    return ServiceSpec(name=asked["name"], type=TYPES[asked["type"]], handlers=handlers, **retentions)
