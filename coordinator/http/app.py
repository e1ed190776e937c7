"""The application: every route that this process has."""

from litestar import Litestar
from litestar.datastructures import State

from coordinator.http import batches, deployments, imports, internal, invocations, outputs, sends, sessions, standing
from coordinator.http.contract import GATEWAY, KAFKA, WORKER
from coordinator.http.edge import Edge
from coordinator.http.metrics import HttpMetrics
from coordinator.http.passing import PASSING, Passing
from coordinator.http.problems import answer_exception
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.group.worker import Worker


def create_app(
    gateway: Gateway | None, worker: Worker | None = None, kafka: Watch | None = None, *, public: bool = True
) -> Litestar:
    """An ASGI application that answers from what this process has, in whose event loop it must run.

    Without `public` there are only the routes that processes have among themselves, and those about the process.
    """
    metrics, passing = HttpMetrics(), Passing()
    routes = list(standing.ROUTES)
    if public:
        routes += [*invocations.ROUTES, *outputs.ROUTES, *sends.ROUTES, *batches.ROUTES, *imports.ROUTES]
        routes += [*deployments.ROUTES, *standing.PUBLIC_ROUTES]
    if public or gateway is not None:
        routes += sessions.ROUTES
    if worker is not None:
        routes += internal.ROUTES
    app = Litestar(
        routes,
        state=State({GATEWAY: gateway, WORKER: worker, KAFKA: kafka, PASSING: passing, standing.METRICS: metrics}),
        exception_handlers={Exception: answer_exception},  # type: ignore[dict-item] # a Reply is all that is asked of it
        openapi_config=None,  # ours is made from the operations: `openapi`
        logging_config=None,  # ours is structlog
        request_max_body_size=None,  # each route has its own bound: `reading`
    )
    app.asgi_handler = Edge(app.asgi_handler, metrics)
    return app
