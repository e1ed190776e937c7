"""Routes for participants: sessions, their deliveries as a stream, and their reports.

Bodies here are made for programs: messages as they stand on the log, in msgpack, each behind its length.
"""

from typing import Annotated, Any, Final

import msgspec

from coordinator.http.contract import Body, Operation, Success, gateway_of, route
from coordinator.http.passing import where_the_sessions_are
from coordinator.http.reading import AnyRequest, query, read_body, segment
from coordinator.http.replies import Reply, StreamReply, json_reply
from coordinator.model import limits
from coordinator.requests.body import decode

FRAMES: Final = "application/octet-stream"
MSGPACK: Final = "application/msgpack"

Capacity = Annotated[
    int, msgspec.Meta(ge=1, le=limits.SESSION_CAPACITY_MAX, description="How many attempts it takes at once")
]


class SessionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session as it is asked for."""

    deployment: Annotated[str, msgspec.Meta(description="One that is registered")]
    capacity: Capacity


class SessionView(msgspec.Struct, frozen=True):
    """A session that has begun."""

    id: str
    lease_s: float


_decode: Final = msgspec.json.Decoder(SessionBody)
_encode: Final = msgspec.msgpack.Encoder().encode


@route(
    "POST",
    "/sessions",
    Operation(
        id="openSession",
        summary="Connect a participant: a process that runs handlers of a deployment",
        body=Body("Whose handlers, and how many at once", SessionBody),
        answers={201: Success("It has begun, and lasts as long as it is renewed", SessionView, headers=("Location",))},
        problems=(400, 404, 413, 429, 503),
    ),
)
@where_the_sessions_are
async def open_session(request: AnyRequest) -> Reply:
    """Begin a session."""
    query(request)
    body = decode(_decode, await read_body(request, limits.REQUEST_BYTES_MAX))
    id = gateway_of(request).dispatcher.open(body.deployment, body.capacity)
    view = SessionView(id, limits.LEASE_US / limits.SECOND_US)
    return json_reply(201, view, headers={"location": f"/sessions/{id}"})


@route(
    "GET",
    "/sessions/{id:str}/deliveries",
    Operation(
        id="streamDeliveries",
        summary="What is delivered to the session, as it comes; replaces the stream that it had before",
        answers={200: Success("Frames, each a delivery, or empty as a sign of life", media=FRAMES)},
        problems=(400, 404, 503),
    ),
)
@where_the_sessions_are
async def stream_deliveries(request: AnyRequest) -> Reply:
    """Stream until the session, the connection or the server ends."""
    query(request)
    stream = gateway_of(request).dispatcher.stream(segment(request.path_params["id"]))
    return StreamReply(stream, media=FRAMES, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})


@route(
    "POST",
    "/sessions/{id:str}/reports",
    Operation(
        id="report",
        summary="Have reports applied, in their order; without any a sign of life",
        body=Body("Frames, each a report", media=FRAMES, required=False),
        answers={200: Success("An array of [code, status or nil, detail or nil], one for each report", media=MSGPACK)},
        problems=(400, 404, 413, 503),
    ),
)
@where_the_sessions_are
async def report(request: AnyRequest) -> Reply:
    """Apply them, and answer when all are."""
    query(request)
    body = await read_body(request, limits.REPORTS_BYTES_MAX)
    reported = await gateway_of(request).dispatcher.report(segment(request.path_params["id"]), body)
    return Reply(200, _encode(reported), media=MSGPACK)


@route(
    "DELETE",
    "/sessions/{id:str}",
    Operation(
        id="leaveSession",
        summary="End the session at once; what it has is delivered to others",
        answers={204: Success("It is over", media=None)},
        problems=(400, 404, 503),
    ),
)
@where_the_sessions_are
async def leave_session(request: AnyRequest) -> Reply:
    """Leave."""
    query(request)
    gateway_of(request).dispatcher.leave(segment(request.path_params["id"]))
    return Reply(204, b"")


ROUTES: Final[list[Any]] = [open_session, stream_deliveries, report, leave_session]
