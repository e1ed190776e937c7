"""HTTP as the client needs it: errors with a meaning, and patience where patience is safe.

What may be repeated is repeated while a server restarts or has no room, for a bounded time; what may not is
reported at once. Nobody listening at the first try is reported at once too: that is a wrong address or a
server that is not started, and waiting would not help.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx
import msgspec

from coordinator.client.errors import ServerError, UnreachableError, error_of
from coordinator.model.errors import CallerError

T = TypeVar("T")

TIMEOUTS: Final = httpx.Timeout(60.0, connect=5.0)
"""Longer than a server waits for its partitions, so that its own explanation arrives."""
_NOT_THERE: Final = (httpx.ConnectError, httpx.ConnectTimeout)
_BACKOFF_MIN_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Backoff:
    """Growing pauses with jitter, so that clients do not come back all at once; and an end to patience."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.succeeded()

    def succeeded(self) -> None:
        """Something went well: what fails next is the first failure."""
        self._failing_since: float | None = None
        self._pause_s = _BACKOFF_MIN_S

    def failed(self) -> bool:
        """Something failed. Whether there is patience left to try again."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since < self._patience_s

    async def pause(self, at_least_s: float = 0.0) -> None:
        """Wait before the next try."""
        jittered = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        self._pause_s = min(2 * self._pause_s, _BACKOFF_MAX_S)
        await asyncio.sleep(max(at_least_s, jittered))


class Transport:
    """One connection pool to one server."""

    def __init__(self, url: str, token: str | None, patience_s: float) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise CallerError(f"{url!r} is no URL: {error}", field="url") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise CallerError(f"{url!r} is no http:// or https:// URL, as in http://127.0.0.1:9070", field="url")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise CallerError("COORDINATOR_TOKEN must be plain ASCII without line breaks", field="token")
        self.url: Final = url.rstrip("/")
        self.patience_s: Final = patience_s
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=TIMEOUTS,
            # A proxy for the outside world would not find this machine.
            trust_env=parsed.host not in _LOOPBACK,
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        limits: httpx.Timeout = TIMEOUTS,
        repeatable: bool = False,
    ) -> httpx.Response:
        """The answer, once there is a good one. `body` is sent as JSON, `content` as it is.

        `repeatable` says that doing it twice is the same as once.
        """
        if body is not None:
            content = msgspec.json.encode(body)
            headers = {"Content-Type": "application/json", **(headers or {})}
        request = self._http.build_request(
            method, path, params=list(params), headers=headers, content=content, timeout=limits
        )
        streamed = not isinstance(content, bytes | None)
        backoff, answered = Backoff(self.patience_s), False
        while True:
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                was_there = answered or not isinstance(error, _NOT_THERE)
                if not (repeatable and was_there and backoff.failed()):
                    raise self._unreachable(error) from error
                answered = True
                await backoff.pause()
                continue
            if response.is_success:
                return response
            answered = True
            # 429 was not taken at all; of what met 503 a part may have been.
            again = response.status_code == 429 or (response.status_code == 503 and repeatable)
            if not (again and not streamed and backoff.failed()):
                raise error_of(response.status_code, response.content)
            await backoff.pause(_retry_after_s(response))

    @contextlib.asynccontextmanager
    async def stream(self, path: str, *, accept: str, silence_s: float) -> AsyncIterator[httpx.Response]:
        """An answer that is read as it comes. Raises UnreachableError also when it breaks off or falls silent."""
        timeout = httpx.Timeout(TIMEOUTS.connect, read=silence_s)
        try:
            async with self._http.stream("GET", path, headers={"Accept": accept}, timeout=timeout) as response:
                if not response.is_success:
                    raise error_of(response.status_code, await response.aread())
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        if isinstance(error, _NOT_THERE):
            return UnreachableError(
                f"no server answers at {self.url}; start one with `coordinator serve`, or say where it is with "
                "COORDINATOR_URL"
            )
        what = str(error) or type(error).__name__
        return UnreachableError(f"the connection to {self.url} broke before the answer came ({what}); ask again")


def decoded(response: httpx.Response, type: type[T]) -> T:
    """The body as this type. Raises ServerError when it is something else."""
    return decode(response.content, type)


def decode(data: bytes | str, type: type[T]) -> T:
    """JSON of the server as this type. Raises ServerError when it is something else."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerError(f"the server answered what this client does not understand ({error})") from error


def _retry_after_s(response: httpx.Response) -> float:
    """What the server asks for, at most the longest pause; a date instead of a number counts as nothing."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _BACKOFF_MAX_S) if text.isdigit() else 0.0
