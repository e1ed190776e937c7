"""Routes of single invocations: list them, look at one, act on one."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from coordinator.http import listing
from coordinator.http.contract import PAGING, Method, Operation, Parameter, Success, gateway_of, route
from coordinator.http.reading import AnyRequest, query, read_body, segment, single
from coordinator.http.replies import JSON, Reply, StreamReply, encode_json, json_reply
from coordinator.model import limits
from coordinator.model.errors import CallerError, ConflictError, NotFoundError
from coordinator.model.statuses import Action
from coordinator.partition.outputs import Answer
from coordinator.requests.body import TIMES
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.views import InvocationDetails, InvocationView


class Acted(msgspec.Struct, frozen=True):
    """What a command made of an invocation."""

    id: str
    status: str | UnsetType = UNSET
    """As of the command's position on the log; absent once it is purged, and of one that is yet to be created."""


# -- listing -------------------------------------------------------------------------------------------------

_TIME: Final = "RFC 3339 or an age, as 2h"
_LISTING: Final = (
    Parameter("target", "Service, Service/handler, Object/key or Object/key/handler"),
    Parameter("service", "The name of the service"),
    Parameter("handler", "The name of the handler"),
    Parameter("key", "The key, exactly"),
    Parameter("deployment", "The deployment that it is pinned to"),
    Parameter("status", "Any of these", list[str]),
    Parameter("ids", "Any of these", list[str]),
    *(Parameter(name, f"{name.replace('_', ' ')} this time: {_TIME}") for name in TIMES),
    Parameter("all", "Restricts nothing", bool),
    *PAGING,
)


@route(
    "GET",
    "/invocations",
    Operation(
        id="listInvocations",
        summary="Invocations, newest created_at first, then by id",
        parameters=_LISTING,
        answers={200: Success("Those that match all parameters", list[InvocationView], headers=("Link",))},
        problems=(400, 503),
    ),
)
async def list_invocations(request: AnyRequest) -> Reply:
    """Stream all of them, or give one page and say where the next begins."""
    asked = listing.parse(request, wall_clock_us())
    gateway = gateway_of(request)
    if asked.limit is not None:
        page: list[InvocationView] = []
        async for chunk in gateway.invocations(asked.filter, limit=asked.limit + 1, after=asked.cursor):
            page += chunk
        more = len(page) > asked.limit
        del page[asked.limit :]
        link = (
            listing.next_page(request, "/invocations", listing.PARAMETERS, gateway.cursor(page[-1])) if more else None
        )
        return json_reply(200, page, headers=link)
    chunks = gateway.invocations(asked.filter, limit=None, after=asked.cursor)
    # The first chunk is had before the answer begins: what fails by then still has a status of its own.
    nothing: list[InvocationView] = []
    first = await anext(chunks, nothing)
    return StreamReply(_array(first, chunks), media=JSON)


async def _array(first: list[InvocationView], rest: AsyncIterator[list[InvocationView]]) -> AsyncIterator[bytes]:
    yield b"[" + encode_json(first)[1:-1]
    async for chunk in rest:
        yield b"," + encode_json(chunk)[1:-1]
    yield b"]"


# -- one -----------------------------------------------------------------------------------------------------


@route(
    "GET",
    "/invocations/{id:str}",
    Operation(
        id="getInvocation",
        summary="One invocation",
        answers={200: Success("The invocation as all batches in force have left it", InvocationDetails)},
        problems=(400, 404, 503),
    ),
)
async def get_invocation(request: AnyRequest) -> Reply:
    """One invocation."""
    id = segment(request.path_params["id"])
    view = await gateway_of(request).invocation(id)
    if view is None:
        raise NotFoundError(f"{id} is not there, or no longer")
    return json_reply(200, view)


# -- actions -------------------------------------------------------------------------------------------------

_SUMMARIES: Final = {
    Action.CANCEL: "Ask it to end: its children first, then itself at its next await point, with compensation",
    Action.KILL: "End it and its attached children now, without compensation",
    Action.PAUSE: "Stop it until it is resumed",
    Action.RESUME: "Let a paused one go on, or one on a retry timer retry now",
    Action.PURGE: "Forget a completed one",
    Action.RESTART_AS_NEW: "Start another one like a completed one, with its input; answers with the id of the new one",
}
_ANSWERS: Final = {
    200: Success("Done, and later reads see it", Acted),
    202: Success("Asked, and recorded", Acted),
}
_CODES: Final = {Action.CANCEL: (200, 202), Action.RESTART_AS_NEW: (202,)}
"""What is answered where it is done; of those that are not here 200."""
_DEPLOYMENT: Final = Parameter("deployment", "The deployment to go on with")


def _action(method: Method, path: str, action: Action, *, id: str) -> HTTPRouteHandler:
    parameters = (_DEPLOYMENT,) if action is Action.RESUME else ()
    operation = Operation(
        id=id,
        summary=_SUMMARIES[action],
        parameters=parameters,
        answers={code: _ANSWERS[code] for code in _CODES.get(action, (200,))},
        problems=(400, 404, 409, 413, 503),
    )

    async def act(request: AnyRequest) -> Reply:
        await read_body(request)  # has no meaning here, and a limit all the same
        deployment = single(query(request, *(parameter.name for parameter in parameters)), "deployment")
        if deployment is not None and not 1 <= len(deployment) <= limits.NAME_CHARS_MAX:
            raise CallerError(f"deployment must have 1 to {limits.NAME_CHARS_MAX} characters", field="deployment")
        id = segment(request.path_params["id"])
        return acted(await gateway_of(request).act(action, id, deployment=deployment))

    return route(method, path, operation)(act)


def _operation_id(action: Action) -> str:
    verb, *rest = action.split("-")
    return f"{verb}Invocation{''.join(word.capitalize() for word in rest)}"


def acted(answer: Answer) -> Reply:
    """A partition's answer to a command. Raises what its code means."""
    if answer.code == 404:
        raise NotFoundError(answer.detail or "it is not there, or no longer")
    if answer.code == 409:
        raise ConflictError(answer.detail or "its status does not allow this")
    if answer.code >= 400:
        raise CallerError(answer.detail or "it was refused")
    return json_reply(answer.code, Acted(answer.id or "", UNSET if answer.status is None else answer.status))


ROUTES: Final[list[Any]] = [
    list_invocations,
    get_invocation,
    *(_action("PATCH", f"/invocations/{{id:str}}/{action}", action, id=_operation_id(action)) for action in _SUMMARIES),
    _action("DELETE", "/invocations/{id:str}", Action.KILL, id="deleteInvocation"),
    _action("DELETE", "/invocations/{id:str}/purge", Action.PURGE, id="deletePurgeInvocation"),
]
