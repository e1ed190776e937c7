"""Reading requests: bodies up to a limit, path segments that may hold slashes, query strings without surprises."""

from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from litestar import Request
from litestar.types import Scope

from coordinator.http.problems import TooLargeError
from coordinator.model import limits
from coordinator.model.errors import CallerError

AnyRequest = Request[Any, Any, Any]


class ClientGoneError(CallerError):
    """The client hung up in the middle of its request; nobody is there to be told."""


# -- bodies --------------------------------------------------------------------------------------------------


async def read_body(request: AnyRequest, bytes_max: int = limits.RECORD_BYTES_MAX) -> bytes:
    """The whole body. Raises TooLargeError as soon as it is known to be larger, ClientGoneError.

    What is left of a refused body the server reads and drops, so that its sender is there to hear the answer.
    """
    declared = header(request.scope, b"content-length")
    if declared is not None and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    event = await request.receive()
    chunks: list[bytes] = []
    size = 0
    while event["type"] == "http.request":
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
        if not event.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)
        event = await request.receive()
    raise ClientGoneError("the client hung up")


def _too_large(bytes_max: int) -> TooLargeError:
    return TooLargeError(f"the body may have {bytes_max} bytes here")


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that name, which must be lower-case."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


# -- paths ---------------------------------------------------------------------------------------------------

_SLASH: Final = "%2F"


def routable(raw_path: bytes) -> str:
    """The path as the router is to see it: decoded but for slashes inside of segments.

    A server hands over a path in which an encoded slash, as keys may have one, looks like any other. Raises
    CallerError when it is not UTF-8, or when a segment is empty: routers drop those, and `/Object//add` would
    be taken for a call of another target.
    """
    try:
        text = raw_path.decode("ascii")
        if "%" in text:
            text = "/".join(_kept(unquote(segment, errors="strict")) for segment in text.split("/"))
    except UnicodeDecodeError:
        raise CallerError("the path is not percent-encoded UTF-8") from None
    if "//" in text:
        raise CallerError("a segment of the path is empty; a key in a path has at least one character")
    return text


def _kept(segment: str) -> str:
    return segment.replace("%", "%25").replace("/", _SLASH)


def segment(text: str) -> str:
    """A segment of a routable path as it was meant."""
    return text.replace(_SLASH, "/").replace("%25", "%") if "%" in text else text


# -- query strings -------------------------------------------------------------------------------------------


def query(request: AnyRequest, *known: str) -> dict[str, list[str]]:
    """The values of each parameter. Raises CallerError for one that is not known.

    To overlook a misspelt filter would widen it, and to overlook a misspelt delay would start at once.
    """
    raw = request.scope["query_string"]
    if not raw:
        return {}
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise CallerError("the query is not percent-encoded UTF-8") from None
    for name, value in pairs:
        if name not in known:
            takes = f"the parameters are {', '.join(known)}" if known else "there are none"
            raise CallerError(f"there is no parameter {name!r} here; {takes}", field=name)
        found.setdefault(name, []).append(value)
    return found


def single(values: dict[str, list[str]], name: str) -> str | None:
    """The one value of a parameter, None when it is not given. Raises CallerError when it is given twice."""
    given = values.get(name)
    if given is None:
        return None
    if len(given) > 1:
        raise CallerError(f"{name} is given {len(given)} times; it has one value", field=name)
    return given[0]
