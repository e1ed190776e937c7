"""What each route promises, beside the code that keeps it. `openapi` makes the document from this.

A route carries its operations; usually one. Where the router's pattern is wider than what is understood, an
operation names its own path.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from litestar.handlers import HTTPRouteHandler

from coordinator.http.reading import AnyRequest
from coordinator.http.replies import JSON
from coordinator.model import limits
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.worker import Worker

OPERATIONS: Final = "operations"
"""Where a route's `opt` has them."""
GATEWAY: Final = "gateway"
"""Where the application's state has it."""
WORKER: Final = "worker"
"""Where the application's state has what owns partitions in this process, on Kafka."""
KAFKA: Final = "kafka"
"""Where the application's state has what is known of the brokers."""

Method = Literal["GET", "POST", "PATCH", "DELETE"]


class Parameter(NamedTuple):
    """A parameter in a query string or a header."""

    name: str
    description: str
    type: Any = str
    """As msgspec takes it; a list may be given several times."""
    where: Literal["query", "header"] = "query"


PAGING: Final = (
    Parameter("limit", f"At most so many, 1 to {limits.LIST_PAGE_MAX}; without it all of them", int),
    Parameter("cursor", "Where the page before ended, from its Link header"),
)


class Body(NamedTuple):
    """What a request carries."""

    description: str
    type: Any = None
    """As msgspec takes it; None where any bytes will do."""
    media: str = JSON
    required: bool = True


class Success(NamedTuple):
    """An answer that is no problem."""

    description: str
    type: Any = None
    """As msgspec takes it; None for text."""
    media: str | None = JSON
    """None for an answer without a body."""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method on one path."""

    id: str
    summary: str
    path: str | None = None
    """None: the router's."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: dict[int, Success] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    """Statuses beside 500, which is always possible, and 403, which is for what changes something."""


def route(
    method: Method, path: str, *operations: Operation
) -> Callable[[Callable[[AnyRequest], Awaitable[Any]]], HTTPRouteHandler]:
    """Make a route of a function of the request. What it returns is sent as it is."""
    return HTTPRouteHandler(path, http_method=method, status_code=200, opt={OPERATIONS: operations})


def gateway_of(request: AnyRequest) -> Gateway:
    """The running system behind the application."""
    gateway: Gateway = request.app.state[GATEWAY]
    return gateway


def worker_of(request: AnyRequest) -> Worker:
    """What owns partitions in this process."""
    worker: Worker = request.app.state[WORKER]
    return worker
