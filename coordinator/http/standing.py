"""Routes about the system itself: its partitions, whether it lives, whether it is ready, its metrics, its contract."""

import asyncio
from typing import Any, Final

import msgspec

from coordinator.http import metrics, problems
from coordinator.http.contract import GATEWAY, KAFKA, WORKER, Operation, Success, gateway_of, route
from coordinator.http.metrics import BrokersView, HttpMetrics, Shown
from coordinator.http.openapi import document
from coordinator.http.reading import AnyRequest
from coordinator.http.replies import Reply, encode_json, json_reply
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.group.worker import Worker
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
        summary="Whether all commands can be taken: every partition has an owner, nothing stands still, brokers answer",
        answers={200: Success("They can", Standing)},
        problems=(503,),
    ),
)
async def ready(request: AnyRequest) -> Reply:
    """Ready, or why not."""
    gateway, worker = request.app.state[GATEWAY], request.app.state[WORKER]
    reasons = [reason for part in (gateway, worker) if part is not None for reason in part.unready()]
    if _brokers_are_gone(request.app.state[KAFKA]):
        reasons.append("no broker answers")
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
    state = request.app.state
    gateway: Gateway | None = state[GATEWAY]
    worker: Worker | None = state[WORKER]
    kafka: Watch | None = state[KAFKA]
    # How partitions stand is partly the brokers' to say, and metrics are wanted most while these are gone.
    partitions = [] if gateway is None or _brokers_are_gone(kafka) else await gateway.partition_views()
    shown = Shown(
        partitions=partitions,
        states=[] if gateway is None else [batch.state for batch in gateway.batches.list()],
        participants=None if gateway is None else gateway.sessions_view(),
        worker=None if worker is None else worker.view(),
        brokers=None if kafka is None else BrokersView(kafka.up, kafka.outages),
    )
    counted: HttpMetrics = state[METRICS]
    return Reply(200, await asyncio.to_thread(counted.exposition, shown), media=metrics.MEDIA)


def _brokers_are_gone(kafka: Watch | None) -> bool:
    return kafka is not None and not kafka.up


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


ROUTES: Final[list[Any]] = [health, ready, show_metrics]
"""Of every process."""
PUBLIC_ROUTES: Final[list[Any]] = [list_partitions, show_openapi]
