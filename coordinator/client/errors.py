"""What may go wrong between a client and its server, by who can mend it. `str()` is one sentence each."""

from typing import Final

import msgspec

from coordinator.model.errors import CallerError, ConflictError, CoordinatorError, NotFoundError, TransientError


class RejectedError(CallerError):
    """The server does not take the request as it is; `field` names what is wrong where it is one thing."""


class UnauthorizedError(CallerError):
    """The server wants another token, or none of this token's holder may do this."""


class UnreachableError(TransientError):
    """No server answers there, or it has nobody at present who could act."""


class ServerError(CoordinatorError):
    """The server failed, or answered what this client does not understand."""


class EndedError(CoordinatorError):
    """The invocation whose output was asked for has not succeeded."""

    def __init__(self, message: str, *, outcome: str | None, failure: str | None) -> None:
        super().__init__(message)
        self.outcome = outcome
        """`failure`, `cancelled` or `killed`."""
        self.failure = failure
        """What its last failed attempt said."""


class UnfinishedError(CoordinatorError):
    """The invocation whose output was asked for has not ended in time."""


class _Problem(msgspec.Struct):
    """The members of `application/problem+json` that a person wants to see."""

    detail: str | None = None
    title: str | None = None
    field: str | None = None
    outcome: str | None = None
    failure: str | None = None


_decode_problem: Final = msgspec.json.Decoder(_Problem).decode
_BY_STATUS: Final[dict[int, type[CallerError]]] = {
    401: UnauthorizedError,
    403: UnauthorizedError,
    404: NotFoundError,
    409: ConflictError,
}


def error_of(status: int, body: bytes) -> CoordinatorError:
    """The error that an answer with this status means."""
    try:
        problem = _decode_problem(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    sentence = problem.detail or problem.title or f"the server answered {status} without saying why"
    if status in (401, 403):
        sentence = f"{sentence}; COORDINATOR_TOKEN must hold a token that the server accepts for this"
    if status in (429, 503):
        return UnreachableError(f"the server cannot take this now: {sentence}")
    if status == 424:
        return EndedError(sentence, outcome=problem.outcome, failure=problem.failure)
    if 400 <= status < 500:
        return _BY_STATUS.get(status, RejectedError)(sentence, field=problem.field)
    return ServerError(f"the server failed: {sentence}")
