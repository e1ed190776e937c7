"""The client of a server: one object, one connection pool. Over Kafka it has batches and nothing else."""

import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from coordinator.client.batch import Batch, Batches
from coordinator.client.errors import UnfinishedError
from coordinator.client.http_batches import HttpBatches
from coordinator.client.requests import BatchRequest, Filter, duration
from coordinator.client.transport import Transport, decoded
from coordinator.client.views import Acted, ImportReport, Invocation, InvocationDetails, PartitionInfo, Progress
from coordinator.model.errors import CallerError
from coordinator.model.filters import target_parts

URL_DEFAULT: Final = "http://127.0.0.1:9070"
KAFKA: Final = "kafka://"
PATIENCE_S: Final = 30.0
PAGE: Final = 1_000
"""Invocations asked for at a time."""
_WAIT_S: Final = 30.0
"""How long one request waits for an output; shorter than a connection may be silent."""
_ENDLESS: Final = httpx.Timeout(None, connect=5.0)


class Client:
    """Talks to a server. Use it in `async with`; one client may be used by many tasks.

    Errors are those of `coordinator.client`: NotFoundError, ConflictError, RejectedError, UnauthorizedError,
    UnreachableError and ServerError, all of them CoordinatorError, each one sentence.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
        kafka: Mapping[str, str] | None = None,
    ) -> None:
        """`url` is http://HOST:PORT of a server, or kafka://HOST:PORT[,HOST:PORT…] of the brokers that have its log.

        `url` and `token` come from COORDINATOR_URL and COORDINATOR_TOKEN where they are left out. Over Kafka there is
        no token; `kafka` has settings of Kafka's client by their own names, as `security.protocol`, and what it leaves
        out comes from the environment, as for the server (docs/kafka.md).

        `patience_s`: how long to go on trying while a server, or the brokers, that were there are away.
        """
        url = url or os.environ.get("COORDINATOR_URL") or URL_DEFAULT
        self._http: Transport | None = None
        self._batches: Batches
        if url.startswith(KAFKA):
            if token is not None:
                raise CallerError("a token is for an http:// URL; on Kafka say who you are with sasl.*", field="token")
            from coordinator.client.kafka import KafkaBatches  # noqa: PLC0415 - only who uses it needs Kafka's client

            self._batches = KafkaBatches(url, kafka or {}, patience_s)
        else:
            if kafka is not None:
                raise CallerError("settings of Kafka's client need a kafka:// URL", field="kafka")
            self._http = Transport(url, token or os.environ.get("COORDINATOR_TOKEN") or None, patience_s)
            self._batches = HttpBatches(self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._batches.close()

    @property
    def _transport(self) -> Transport:
        """For what only a server can answer."""
        if self._http is None:
            raise CallerError(
                "over Kafka a client submits, follows and changes batches; for everything else give it the http:// URL "
                "of a server",
                field="url",
            )
        return self._http

    # -- batches ---------------------------------------------------------------------------------------------

    async def submit(self, request: BatchRequest) -> Batch:
        """Submit a batch; it is in force once this returns, and worked off from then on.

        With a `request_id`, submitting again gives the same batch. Without one it gets one here, so that a
        connection that breaks is no reason to have it twice.
        """
        return await self._batches.submit(request)

    async def batch(self, id: str) -> Batch:
        """A batch that was submitted before, by whomever."""
        return await self._batches.batch(id)

    async def batches(self) -> list[Progress]:
        """All batches that the server remembers, newest first."""
        return decoded(await self._transport.call("GET", "/batches", repeatable=True), list[Progress])

    # -- invocations -----------------------------------------------------------------------------------------

    async def start(
        self,
        target: str,
        input: Any = None,
        *,
        delay: str | timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> Acted:
        """Start an invocation of `Service/handler` or `Object/key/handler`; `input` is sent as JSON.

        With an idempotency key a repeated start is answered with the first one's id.
        """
        params = []
        if (text := duration(delay)) is not None:
            params.append(("delay", text))
        headers = {}
        if idempotency_key is not None:
            if not idempotency_key.isascii():
                raise CallerError("an idempotency key is sent as a header: ASCII only", field="idempotency_key")
            headers["Idempotency-Key"] = idempotency_key
        response = await self._transport.call(
            "POST",
            f"/services/{_start_path(target)}/send",
            params=params,
            headers=headers,
            body=input,
            repeatable=idempotency_key is not None,
        )
        return _acted(response)

    async def invocation(self, id: str) -> InvocationDetails:
        """One invocation, as it is now."""
        return decoded(await self._transport.call("GET", _path(id), repeatable=True), InvocationDetails)

    async def output(self, id: str, *, timeout_s: float | None = None) -> Any:
        """What an invocation has returned, once it has ended: what its JSON says, else its bytes; None for nothing.

        Waits for the end, for `timeout_s` seconds at most if that is given. Raises EndedError when it has not
        succeeded, UnfinishedError when the time is up, NotFoundError when it is not there.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = _WAIT_S if ends is None else min(_WAIT_S, max(0.0, ends - time.monotonic()))
            params = [("timeout", f"{left_s * 1_000:.0f}ms")]
            response = await self._transport.call("GET", f"{_path(id)}/output", params=params, repeatable=True)
            if response.status_code != httpx.codes.ACCEPTED:
                break
            if ends is not None and time.monotonic() >= ends:
                status = decoded(response, Acted).status
                raise UnfinishedError(
                    f"{id} has not ended in {timeout_s:g} s and is {status}; ask again, or describe it to see why"
                )
        if not response.content:
            return None
        if response.headers.get("content-type") == "application/json":
            return decoded(response, Any)
        return response.content

    async def invocations(self, filter: Filter | None = None, *, limit: int | None = None) -> AsyncIterator[Invocation]:
        """What matches, newest first, then by id; without a filter, all of them."""
        async for page in self.invocation_pages(filter, limit=limit):
            for invocation in page:
                yield invocation

    async def invocation_pages(
        self, filter: Filter | None = None, *, limit: int | None = None
    ) -> AsyncIterator[list[Invocation]]:
        """The same, as many at a time as the server gives."""
        asked = [] if filter is None else filter.to_query()
        cursor: list[tuple[str, str]] = []
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            params = [*asked, ("limit", str(size)), *cursor]
            response = await self._transport.call("GET", "/invocations", params=params, repeatable=True)
            page = decoded(response, list[Invocation])
            if page:
                yield page
            after = httpx.URL(response.links.get("next", {}).get("url", "")).params.get("cursor")
            if after is None:
                return
            cursor = [("cursor", after)]
            left = None if left is None else left - len(page)

    async def act(self, id: str, action: str, *, deployment: str | None = None) -> Acted:
        """`cancel`, `kill`, `pause`, `resume`, `purge` or `restart-as-new` one invocation.

        Raises NotFoundError when it is not there, ConflictError when its status does not allow it.
        """
        params = [] if deployment is None else [("deployment", deployment)]
        # Not repeated when the connection breaks: a second purge would say that there is nothing to purge.
        return _acted(await self._transport.call("PATCH", f"{_path(id)}/{quote(action, safe='')}", params=params))

    # -- the rest --------------------------------------------------------------------------------------------

    async def import_rows(self, lines: Iterable[bytes] | AsyncIterable[bytes]) -> ImportReport:
        """Import lines of JSON in Restate's sys_invocation columns, each ending in a newline.

        They are sent as they come and never held all at once. Answers when all are applied.
        """
        response = await self._transport.call(
            "POST",
            "/import",
            headers={"Content-Type": "application/x-ndjson"},
            content=_async(lines),
            limits=_ENDLESS,
        )
        return decoded(response, ImportReport)

    async def partitions(self) -> list[PartitionInfo]:
        """How the partitions stand."""
        return decoded(await self._transport.call("GET", "/partitions", repeatable=True), list[PartitionInfo])


def _path(id: str) -> str:
    return f"/invocations/{quote(id, safe='')}"


def _start_path(target: str) -> str:
    service, second, handler = target_parts(target)
    if second is None:
        raise CallerError(f"{target!r} names no handler; write Service/handler or Object/key/handler", field="target")
    parts = (service, second) if handler is None else (service, second, handler)
    return "/".join(quote(part, safe="") for part in parts)


def _acted(response: httpx.Response) -> Acted:
    answer = decoded(response, Acted)
    answer.done = response.status_code != httpx.codes.ACCEPTED
    return answer


async def _async(lines: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line
