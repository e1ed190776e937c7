"""Routes about the system itself: its partitions, whether it lives, whether it is ready, its metrics, its contract."""

import asyncio
from typing import Any, Final

import msgspec

from coordinator.http import metrics, problems
from coordinator.http.contract import Operation, Success, gateway_of, route
from coordinator.http.metrics import HttpMetrics
from coordinator.http.openapi import document
from coordinator.http.reading import AnyRequest
from coordinator.http.replies import Reply, encode_json, json_reply
from coordinator.runtime.views import PartitionView

METRICS: Final = "metrics"
"""Where the application's state has them."""


class Standing(msgspec.Struct, frozen=True):
    """How the process stands."""

    status: str


@route(
    "GET",
    "/partitions",
    Operation(
        id="listPartitions",
        summary="How each partition stands: positions, lag, owner, the batches in force",
        answers={200: Success("The partitions by number", list[PartitionView])},
        problems=(503,),
    ),
)
async def list_partitions(request: AnyRequest) -> Reply:
    """All partitions."""
    return json_reply(200, await gateway_of(request).partition_views())


@route(
    "GET",
    "/health",
    Operation(
        id="health",
        summary="Whether the process answers at all",
        answers={200: Success("It does", Standing)},
    ),
)
async def health(request: AnyRequest) -> Reply:
    """Alive."""
    return json_reply(200, Standing("ok"))


@route(
    "GET",
    "/ready",
    Operation(
        id="ready",
        summary="Whether all commands can be taken: every partition has an owner, and nothing stands still",
        answers={200: Success("They can", Standing)},
        problems=(503,),
    ),
)
async def ready(request: AnyRequest) -> Reply:
    """Ready, or why not."""
    reasons = gateway_of(request).unready()
    if reasons:
        return problems.problem_reply(problems.problem(503, "; ".join(reasons)), {"retry-after": "1"})
    return json_reply(200, Standing("ready"))


@route(
    "GET",
    "/metrics",
    Operation(
        id="metrics",
        summary="Metrics for Prometheus",
        answers={200: Success("Prometheus' text format", media=metrics.MEDIA)},
        problems=(503,),
    ),
)
async def show_metrics(request: AnyRequest) -> Reply:
    """The metrics."""
    gateway = gateway_of(request)
    counted: HttpMetrics = request.app.state[METRICS]
    participants = gateway.dispatcher.view()
    partitions = await gateway.partition_views()

    def exposition() -> bytes:
        states = (batch.state for batch in gateway.batches())
        return counted.exposition(partitions, states, participants)

    return Reply(200, await asyncio.to_thread(exposition), media=metrics.MEDIA)


@route(
    "GET",
    "/openapi.json",
    Operation(
        id="openapi",
        summary="This document",
        answers={200: Success("OpenAPI 3.1", dict[str, Any])},
    ),
)
async def show_openapi(request: AnyRequest) -> Reply:
    """The contract, from the routes that there are."""
    return Reply(200, encode_json(document(request.app.routes)))


ROUTES: Final[list[Any]] = [list_partitions, health, ready, show_metrics, show_openapi]
