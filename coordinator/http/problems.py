"""Errors as callers see them: RFC 9457 `application/problem+json`, one kind for each status.

`detail` is one sentence that says what to do; `field` names the offending field where it is one.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, NotFoundException

from coordinator.http.replies import Reply, encode_json
from coordinator.model.errors import CallerError, ConflictError, NotFoundError, TransientError
from coordinator.runtime.errors import BusyError

MEDIA: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 1


class TooLargeError(CallerError):
    """The body, or the record that it would become, exceeds its limit."""


class UnsupportedEncodingError(CallerError):
    """The body is encoded in a way that is not understood here."""


class EndedOtherwiseError(CallerError):
    """The invocation whose output is asked for has not succeeded."""

    def __init__(self, id: str, outcome: str, failure: str | None) -> None:
        super().__init__(f"{id} has ended with {outcome}" + (f": {failure}" if failure else ""))
        self.outcome = outcome
        self.failure = failure


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong."""

    type: str
    """A URN that stands for the kind of problem; made for programs."""
    title: str
    status: int
    detail: str
    field: str | None = None
    """The offending field, as `filter.status`."""
    outcome: str | None = None
    """Of an invocation that has not succeeded: `failure`, `cancelled` or `killed`."""
    failure: str | None = None
    """What its last failed attempt said."""


KINDS: Final = {
    400: ("invalid", "The request cannot be taken as it is"),
    403: ("cross-site", "A page of another site may not change anything"),
    404: ("not-found", "What was asked for is not there"),
    405: ("method-not-allowed", "The path does not know this method"),
    409: ("conflict", "The request contradicts what is there"),
    413: ("too-large", "The body exceeds its limit"),
    415: ("unsupported-encoding", "The body's encoding is not understood"),
    424: ("ended-otherwise", "The invocation has not succeeded"),
    429: ("busy", "Too much is under way"),
    500: ("internal", "The server failed"),
    503: ("unavailable", "A part of the system is away"),
}
"""Status → the kind's name, with which its URN ends, and its title."""

_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (TooLargeError, 413),
    (UnsupportedEncodingError, 415),
    (EndedOtherwiseError, 424),
    (NotFoundError, 404),
    (ConflictError, 409),
    (BusyError, 429),
    (CallerError, 400),
    (TransientError, 503),
)
"""The first that fits; what none fits is a failure of ours."""


def problem(status: int, detail: str, *, field: str | None = None) -> Problem:
    """A problem of the kind that belongs to the status."""
    name, title = KINDS.get(status) or (f"status-{status}", HTTPStatus(status).phrase)
    return Problem(type=f"urn:coordinator:problem:{name}", title=title, status=status, detail=detail, field=field)


def problem_reply(shown: Problem, headers: dict[str, str] | None = None) -> Reply:
    """The problem as an answer."""
    return Reply(shown.status, encode_json(shown), media=MEDIA, headers=headers)


def answer_exception(request: Request[Any, Any, Any], error: Exception) -> Reply:
    """The answer to any exception that a route, or the routing, ends with."""
    if isinstance(error, HTTPException):
        return _of_routing(request, error)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        path = request.scope["path"]
        structlog.get_logger().error("request failed", method=request.method, path=path, exc_info=error)
        return problem_reply(problem(500, "the server failed at this request; its log says why"))
    shown = problem(status, str(error), field=error.field if isinstance(error, CallerError) else None)
    if isinstance(error, EndedOtherwiseError):
        shown.outcome, shown.failure = error.outcome, error.failure
    return problem_reply(shown, _retry_after(error))


def _of_routing(request: Request[Any, Any, Any], error: HTTPException) -> Reply:
    status, detail = error.status_code, error.detail
    if isinstance(error, NotFoundException):
        detail = f"there is no {request.scope['path']}; /openapi.json lists what there is"
    elif status == 405:
        detail = f"{request.scope['path']} does not know {request.method}"
    allow = (error.headers or {}).get("allow")
    return problem_reply(problem(status, detail), {"allow": allow} if allow else None)


def _retry_after(error: Exception) -> dict[str, str] | None:
    if isinstance(error, BusyError):
        return {"retry-after": str(error.retry_after_s)}
    return {"retry-after": str(_RETRY_AFTER_S)} if isinstance(error, TransientError) else None
