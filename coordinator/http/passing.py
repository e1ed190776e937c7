"""Passing a request on to the process that can answer it, with what it answers streamed back as it comes."""

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

import httpx

from coordinator.http.contract import gateway_of
from coordinator.http.reading import AnyRequest, header, read_body
from coordinator.http.replies import Reply, StreamReply
from coordinator.model import limits
from coordinator.runtime.errors import UnavailableError

PASSED_ON: Final = "x-coordinator-passed-on"
"""Set on a request that was passed on once, so that two processes never pass one to and fro."""
_KEPT_THERE: Final = frozenset(("content-type", "content-encoding"))
_KEPT_BACK: Final = frozenset(("cache-control", "location", "retry-after", "x-accel-buffering"))
_TIMEOUT: Final = httpx.Timeout(60, connect=2, read=60)

Answer = Callable[[AnyRequest], Awaitable[Any]]


class Passing:
    """Connections to other processes, for as long as the application runs."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, limits=httpx.Limits(max_connections=None))

    async def on(self, request: AnyRequest, address: str) -> Reply:
        """Have the request answered there. Raises UnavailableError when that cannot be."""
        if header(request.scope, PASSED_ON.encode()) is not None:
            raise UnavailableError("participants' sessions are moving to another process; try again in a moment")
        scope = request.scope
        raw_path = scope.get("raw_path") or scope["path"].encode()
        url = httpx.URL(f"http://{address}").copy_with(raw_path=raw_path + b"?" + scope["query_string"])
        kept = {name: value for name in _KEPT_THERE if (value := header(scope, name.encode())) is not None}
        body = await read_body(request, limits.REPORTS_BYTES_MAX)
        asked = self._http.build_request(request.method, url, content=body, headers=kept | {PASSED_ON: "1"})
        try:
            answer = await self._http.send(asked, stream=True)
        except httpx.HTTPError as error:
            text = f"{address} has the participants' sessions and does not answer; try again in a moment"
            raise UnavailableError(text) from error
        headers = {name: value for name, value in answer.headers.items() if name in _KEPT_BACK}
        media = answer.headers.get("content-type", "application/octet-stream")
        if request.method == "GET" and answer.is_success:
            return StreamReply(_chunks(answer), media=media, headers=headers)
        try:
            return Reply(answer.status_code, await answer.aread(), media=media, headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(f"{address} has the participants' sessions and broke off; try again") from error
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _chunks(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes. When it breaks off there, it breaks off here."""
    async with contextlib.aclosing(answer):
        async for chunk in answer.aiter_raw():
            yield chunk


def where_the_sessions_are(route: Answer) -> Answer:
    """The route, answered by this process or by the one that has the sessions."""

    @functools.wraps(route)
    async def answer(request: AnyRequest) -> Any:
        address = gateway_of(request).sessions_elsewhere
        if address is None:
            return await route(request)
        passing: Passing = request.app.state[PASSING]
        return await passing.on(request, address)

    return answer


PASSING: Final = "passing"
"""Where the application's state has it."""
