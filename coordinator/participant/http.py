"""The transport to a server, over HTTP."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from coordinator.model import limits
from coordinator.model.errors import CallerError, ConflictError, NotFoundError, TransientError
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import ServiceSpec
from coordinator.participant.transport import Answer

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
"""Longer than a server waits for its partitions, so that its own explanation arrives."""
_SILENCE: Final = httpx.Timeout(5 * limits.KEEP_ALIVE_US / limits.SECOND_US, connect=5.0)
"""A stream that says nothing for so long is broken."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_TYPES: Final = {
    ServiceType.SERVICE: "service",
    ServiceType.VIRTUAL_OBJECT: "object",
    ServiceType.WORKFLOW: "workflow",
}
_RETENTIONS: Final = ("retention", "idempotency_retention", "workflow_retention")


class _Opened(msgspec.Struct):
    id: str
    lease_s: float


class _Problem(msgspec.Struct):
    """What is read of application/problem+json."""

    detail: str = ""


_answers: Final = msgspec.msgpack.Decoder(list[Answer])
_opened: Final = msgspec.json.Decoder(_Opened)
_problem: Final = msgspec.json.Decoder(_Problem)


class HttpTransport:
    """One connection pool to one server; use it in `async with`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises CallerError when that is no URL of a server."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise CallerError(f"{url!r} is no URL: {error}", field="url") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise CallerError(f"{url!r} is no http:// or https:// URL, as in http://127.0.0.1:9070", field="url")
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT,
            # A proxy for the outside world would not find this machine.
            trust_env=parsed.host not in _LOOPBACK,
        )

    async def __aenter__(self) -> "HttpTransport":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def register(self, deployment: str, services: Sequence[ServiceSpec]) -> None:
        """Make the deployment known."""
        body = {"id": deployment, "services": [_described(service) for service in services]}
        await self._call("POST", "/deployments", json=body)

    async def open(self, deployment: str, capacity: int) -> tuple[str, float]:
        """Begin a session."""
        response = await self._call("POST", "/sessions", json={"deployment": deployment, "capacity": capacity})
        opened = _read(_opened, response.content)
        return opened.id, opened.lease_s

    async def deliveries(self, session: str) -> AsyncGenerator[bytes, None]:
        """What comes on the session's stream."""
        try:
            async with self._http.stream("GET", f"{_path(session)}/deliveries", timeout=_SILENCE) as response:
                if not response.is_success:
                    raise _error(response.status_code, await response.aread())
                async for chunk in response.aiter_raw():
                    yield chunk
        except httpx.TransportError as error:
            raise self._broken(error) from error

    async def report(self, session: str, body: bytes) -> Sequence[Answer]:
        """Send reports and wait until they are applied."""
        response = await self._call("POST", f"{_path(session)}/reports", content=body)
        answers: list[Answer] = _read(_answers, response.content)
        return answers

    async def leave(self, session: str) -> None:
        """End the session; one that is over already is none any more."""
        with contextlib.suppress(NotFoundError):
            await self._call("DELETE", _path(session))

    async def _call(self, method: str, path: str, *, json: Any = None, content: bytes | None = None) -> httpx.Response:
        media = "application/octet-stream"
        if json is not None:
            content, media = msgspec.json.encode(json), "application/json"
        headers = {} if content is None else {"Content-Type": media}
        try:
            response = await self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise self._broken(error) from error
        if not response.is_success:
            raise _error(response.status_code, response.content)
        return response

    def _broken(self, error: httpx.TransportError) -> TransientError:
        what = str(error) or type(error).__name__
        return TransientError(
            f"the server at {self._url} cannot be reached ({what}); start one with `coordinator serve`"
        )


def _described(service: ServiceSpec) -> dict[str, Any]:
    """A service as the route takes it; durations as people write them."""
    retentions = {field: getattr(service, field) for field in _RETENTIONS}
    return {
        "name": service.name,
        "type": _TYPES[ServiceType(service.type)],
        "handlers": [{"name": handler.name, "shared": handler.shared} for handler in service.handlers],
        **{field: f"{us}us" for field, us in retentions.items() if us != limits.RETENTION_DEFAULT_US},
    }


def _path(session: str) -> str:
    return f"/sessions/{quote(session, safe='')}"


def _read(decoder: Any, content: bytes) -> Any:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CallerError(f"what answers there is no coordinator of this version ({error})") from error


def _error(status: int, content: bytes) -> Exception:
    """What a bad answer means."""
    try:
        detail = _problem.decode(content).detail
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = ""
    text = detail or f"the server answered {status} without a reason"
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(text)
    if status == httpx.codes.CONFLICT:
        return ConflictError(text)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return TransientError(text)
    return CallerError(text)
