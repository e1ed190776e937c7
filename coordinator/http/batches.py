"""Routes of batches: submit, look, control, watch."""

import asyncio
import secrets
from typing import Any, Final, Literal
from urllib.parse import quote

import xxhash
from litestar.handlers import HTTPRouteHandler

from coordinator.http import events, listing
from coordinator.http.contract import PAGING, Body, Operation, Parameter, Success, gateway_of, route
from coordinator.http.reading import AnyRequest, header, read_body, segment
from coordinator.http.replies import Reply, StreamReply, encode_json, json_reply
from coordinator.model import limits
from coordinator.model.errors import NotFoundError
from coordinator.requests.body import BatchBody, RateBody, parse_rate, parse_submission
from coordinator.requests.lifecycle import TERMINAL
from coordinator.requests.view import BatchView
from coordinator.runtime.clock import wall_clock_us

_ID: Final = "/batches/{id:str}"


@route(
    "POST",
    "/batches",
    Operation(
        id="submitBatch",
        summary="Ask for a batch; answers when it is recorded and never waits for its progress",
        body=Body(f"At most {limits.REQUEST_BYTES_MAX} bytes", BatchBody),
        answers={
            202: Success("Accepted", BatchView, headers=("Location",)),
            200: Success("The same body was submitted under this request id before; as it stands now", BatchView),
        },
        problems=(400, 409, 413, 429, 503),
    ),
)
async def submit_batch(request: AnyRequest) -> Reply:
    """Submit a batch, or find the one that was submitted with this id and body."""
    raw = await read_body(request, limits.REQUEST_BYTES_MAX)
    submit = parse_submission(raw, wall_clock_us(), f"batch_{secrets.token_hex(12)}")
    return _submitted(*await gateway_of(request).batches.submit(submit))


def _submitted(batch: BatchView, new: bool) -> Reply:
    if not new:
        return json_reply(200, batch)
    return json_reply(202, batch, headers={"location": f"/batches/{quote(batch.id, safe='')}"})


@route(
    "GET",
    "/batches",
    Operation(
        id="listBatches",
        summary="Batches that are remembered, newest first, then by id",
        parameters=PAGING,
        answers={200: Success("The batches", list[BatchView], headers=("Link",))},
        problems=(400,),
    ),
)
async def list_batches(request: AnyRequest) -> Reply:
    """All of them, or one page, which says where the next begins."""
    limit, cursor = listing.parse_page(request)
    batches = gateway_of(request).batches

    def reply() -> Reply:
        page = batches.list(limit=None if limit is None else limit + 1, after=cursor)
        if limit is None or len(page) <= limit:
            return json_reply(200, page)
        link = listing.next_page(request, "/batches", listing.PAGING, batches.cursor(page[limit - 1]))
        return json_reply(200, page[:limit], headers=link)

    # A week of them may take a while to put together; on the loop that would hold up everybody else.
    return await asyncio.to_thread(reply)


@route(
    "GET",
    _ID,
    Operation(
        id="getBatch",
        summary="One batch with its counts, over all and for each partition",
        answers={200: Success("The batch", BatchView)},
        problems=(404,),
    ),
)
async def get_batch(request: AnyRequest) -> Reply:
    """One batch."""
    return json_reply(200, _batch(request))


def _batch(request: AnyRequest) -> BatchView:
    id = segment(request.path_params["id"])
    batch = gateway_of(request).batches.get(id)
    if batch is None:
        raise NotFoundError(f"there is no batch {id}, or no longer")
    return batch


# -- watching ------------------------------------------------------------------------------------------------


@route(
    "GET",
    f"{_ID}/events",
    Operation(
        id="watchBatch",
        summary="The batch as it stands, and again on each change, until it is over and settled",
        parameters=(Parameter("Last-Event-ID", "The id of the last event that was seen", where="header"),),
        answers={
            200: Success("Server-Sent Events whose data is the batch", media=events.MEDIA),
            204: Success("It is over, and the last event that was seen said so: nothing more comes", media=None),
        },
        problems=(404,),
    ),
)
async def watch_batch(request: AnyRequest) -> Reply:
    """Stream the batch's states."""
    batch = _batch(request)
    seen = header(request.scope, b"last-event-id")
    if batch.state in TERMINAL and seen is not None and seen == _event_id(encode_json(batch)):
        # Browsers open an event stream again whenever it ends; this status is how they are told not to.
        return Reply(204, b"")
    frames = events.frames(gateway_of(request).batches.watch(batch.id), _event)
    return StreamReply(frames, media=events.MEDIA, headers=events.HEADERS)


def _event(batch: BatchView) -> events.Event:
    data = encode_json(batch)
    return events.Event(_event_id(data), data)


def _event_id(data: bytes) -> str:
    """Every event is the whole batch, so its id need only tell it from another."""
    return xxhash.xxh3_64_hexdigest(data)


# -- control -------------------------------------------------------------------------------------------------

_CONTROLS: Final = {
    "pause": "Hold it; what it has asked to end goes on ending",
    "resume": "Let it go on",
    "abort": "End it: what it has not acted on by now, it never will, nor will its grace. Answers when every partition "
    "knows",
}


def _control(verb: Literal["pause", "resume", "abort"]) -> HTTPRouteHandler:
    paused = {"pause": True, "resume": False}.get(verb)
    operation = Operation(
        id=f"{verb}Batch",
        summary=_CONTROLS[verb],
        answers={200: Success("The batch after it", BatchView)},
        problems=(404, 409, 413, 503),
    )

    async def control(request: AnyRequest) -> Reply:
        await read_body(request, limits.REQUEST_BYTES_MAX)  # has no meaning here, and a limit all the same
        id = segment(request.path_params["id"])
        return json_reply(200, await gateway_of(request).batches.control(id, paused=paused, aborted=verb == "abort"))

    return route("POST", f"{_ID}/{verb}", operation)(control)


@route(
    "PATCH",
    _ID,
    Operation(
        id="changeBatch",
        summary="Change the rate of a batch that runs",
        body=Body("Invocations per second over the whole batch; 0 lifts the limit", RateBody),
        answers={200: Success("The batch after it", BatchView)},
        problems=(400, 404, 409, 413, 503),
    ),
)
async def change_batch(request: AnyRequest) -> Reply:
    """Set the rate."""
    rate = parse_rate(await read_body(request, limits.REQUEST_BYTES_MAX))
    return json_reply(200, await gateway_of(request).batches.control(segment(request.path_params["id"]), rate=rate))


@route(
    "POST",
    f"{_ID}/retry",
    Operation(
        id="retryBatch",
        summary="Do again what has failed of a batch that is over, as another batch, ID.retry-1",
        answers={
            202: Success("Accepted", BatchView, headers=("Location",)),
            200: Success("It was retried before; that batch as it stands now", BatchView),
        },
        problems=(404, 409, 413, 429, 503),
    ),
)
async def retry_batch(request: AnyRequest) -> Reply:
    """Retry a batch, or find its retry."""
    await read_body(request, limits.REQUEST_BYTES_MAX)  # has no meaning here, and a limit all the same
    return _submitted(*await gateway_of(request).batches.retry(segment(request.path_params["id"])))


ROUTES: Final[list[Any]] = [
    submit_batch,
    list_batches,
    get_batch,
    watch_batch,
    _control("pause"),
    _control("resume"),
    _control("abort"),
    retry_batch,
    change_batch,
]
