"""The route that starts invocations. It is the one under load, so it does nothing twice and parses by hand."""

from typing import Any, Final

from coordinator.http.contract import Body, Operation, Parameter, Success, gateway_of, route
from coordinator.http.invocations import Acted, acted
from coordinator.http.problems import TooLargeError
from coordinator.http.reading import AnyRequest, query, read_body, segment, single
from coordinator.http.replies import Reply
from coordinator.model import limits
from coordinator.model.errors import CallerError, NotFoundError
from coordinator.model.times import END_US, parse_duration
from coordinator.runtime.clock import wall_clock_us

SERVICE_PATH: Final = "/services/{service}/{handler}/send"
KEYED_PATH: Final = "/services/{service}/{key}/{handler}/send"

_NOT_FORWARDED: Final = frozenset(
    # Of this connection, or between the client and this server, rather than meant for the handler.
    (b"host", b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection",
     b"content-length", b"expect", b"accept", b"accept-encoding", b"user-agent", b"idempotency-key",
     # Kept with the invocation, a token would be readable by its handler for as long as the row stands.
     b"authorization", b"proxy-authorization", b"cookie")
)  # fmt: skip
_IDEMPOTENCY_KEY: Final = b"idempotency-key"
_RECORD_HEAD_BYTES: Final = 512
"""More than a record needs beside its texts and input."""
_TEXT_HEAD_BYTES: Final = 5
_BYTES_PER_CHAR: Final = 4


def _operation(id: str, path: str, summary: str) -> Operation:
    return Operation(
        id=id,
        summary=summary,
        path=path,
        parameters=(
            Parameter("delay", "Start after this long: 10s, 1h, PT1H"),
            Parameter(
                "idempotency-key",
                "Repeats of this key for the same target answer with the first invocation, while it is kept",
                where="header",
            ),
        ),
        body=Body("The input, whatever it is; empty for none", media="*/*", required=False),
        answers={
            202: Success("Accepted: it is created, and later reads see it", Acted),
            200: Success("It was there already, by its idempotency key or as its workflow's run", Acted),
        },
        problems=(400, 404, 413, 503),
    )


@route(
    "POST",
    # The router cannot tell a handler that is called `send` from the word at the end, so it is told no more.
    "/services/{target:path}",
    _operation("send", SERVICE_PATH, "Start an invocation of a service's handler"),
    _operation("sendKeyed", KEYED_PATH, "Start an invocation of a virtual object's or a workflow's handler"),
)
async def send(request: AnyRequest) -> Reply:
    """Create an invocation, at once or delayed."""
    scope = request.scope
    scope["path_template"], service, key, handler = _target(scope["path"])
    delay_us = _delay_us(request) if scope["query_string"] else 0
    idempotency_key, headers = _headers(scope["headers"])
    input = await read_body(request)
    _check_size(len(input), service, handler, key or "", idempotency_key or "", *headers, *headers.values())
    answer = await gateway_of(request).start_invocation(
        service,
        handler,
        key=key,
        input=input or None,
        headers=headers,
        delay_us=delay_us,
        idempotency_key=idempotency_key,
    )
    return acted(answer)


def _target(path: str) -> tuple[str, str, str | None, str]:
    """The path's template, and what it holds: service, key, handler."""
    match path.split("/"):
        case ["", "services", service, handler, "send"]:
            return SERVICE_PATH, _name(service, "service"), None, _name(handler, "handler")
        case ["", "services", service, key, handler, "send"]:
            named = _name(key, "key", limits.KEY_CHARS_MAX)
            return KEYED_PATH, _name(service, "service"), named, _name(handler, "handler")
    raise NotFoundError(f"there is no {path}; invocations are started by {SERVICE_PATH} or {KEYED_PATH}")


def _name(kept: str, field: str, chars_max: int = limits.NAME_CHARS_MAX) -> str:
    """A segment as a name that filters can name too."""
    text = segment(kept)
    if len(text) > chars_max or "\0" in text:
        raise CallerError(f"{field} must have 1 to {chars_max} characters and no NUL", field=field)
    return text


def _delay_us(request: AnyRequest) -> int:
    text = single(query(request, "delay"), "delay")
    if text is None:
        return 0
    try:
        delay_us = parse_duration(text)
    except CallerError as error:
        raise CallerError(f"delay: {error}", field="delay") from None
    if wall_clock_us() + delay_us >= END_US:
        raise CallerError(f"delay {text!r} ends after the year 9999", field="delay")
    return delay_us


def _headers(raw: Any) -> tuple[str | None, dict[str, str]]:
    """The idempotency key, and what is kept for the handler; of a repeated header the values, joined."""
    idempotency_key: str | None = None
    kept: dict[str, str] = {}
    for name, value in raw:
        if name == _IDEMPOTENCY_KEY:
            idempotency_key = value.decode("latin-1")
            if not 1 <= len(idempotency_key) <= limits.KEY_CHARS_MAX:
                message = f"idempotency-key must have 1 to {limits.KEY_CHARS_MAX} characters"
                raise CallerError(message, field="idempotency-key")
        elif name not in _NOT_FORWARDED:
            text, shown = name.decode("latin-1"), value.decode("latin-1")
            kept[text] = f"{kept[text]}, {shown}" if text in kept else shown
    return idempotency_key, kept


def _check_size(input_bytes: int, *texts: str) -> None:
    """Refuse what might not fit into one record. Texts are counted exactly only where that decides."""
    bound = limits.RECORD_BYTES_MAX - _RECORD_HEAD_BYTES - input_bytes
    heads = _TEXT_HEAD_BYTES * len(texts)
    if heads + _BYTES_PER_CHAR * sum(map(len, texts)) <= bound:
        return
    if heads + sum(len(text.encode()) for text in texts) > bound:
        message = f"the record of an invocation may have {limits.RECORD_BYTES_MAX} bytes, with its input and headers"
        raise TooLargeError(message)


ROUTES: Final[list[Any]] = [send]
