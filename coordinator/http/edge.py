"""The outermost layer of the application: makes paths routable, and counts every answer."""

import time
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.http.metrics import UNMATCHED, HttpMetrics
from coordinator.http.problems import problem, problem_reply
from coordinator.http.reading import routable
from coordinator.model.errors import CallerError

SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing, so that a page of another site may use them."""


def _from_another_site(scope: Scope) -> bool:
    """Whether a browser says so: a page that the operator has open must not reach what listens on loopback."""
    return any(name == b"sec-fetch-site" and value == b"cross-site" for name, value in scope["headers"])


class Edge:
    """An ASGI application around the router."""

    def __init__(self, inner: ASGIApp, metrics: HttpMetrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("path_template", UNMATCHED)
                method = UNMATCHED if route == UNMATCHED else scope["method"]
                self._metrics.answered(route, method, message["status"], time.perf_counter() - began)
            await send(message)

        if scope["method"] not in SAFE and _from_another_site(scope):
            text = "a page of another site may not change anything here; send it from the command line or this site"
            await problem_reply(problem(403, text))(scope, receive, counted)
            return
        try:
            scope["path"] = routable(scope.get("raw_path") or scope["path"].encode())
        except CallerError as error:
            await problem_reply(problem(400, str(error)))(scope, receive, counted)
            return
        await self._inner(scope, receive, counted)
