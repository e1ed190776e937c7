"""The application: every route over one gateway."""

from litestar import Litestar
from litestar.datastructures import State

from coordinator.http import batches, deployments, imports, invocations, outputs, sends, sessions, standing
from coordinator.http.contract import GATEWAY
from coordinator.http.edge import Edge
from coordinator.http.metrics import HttpMetrics
from coordinator.http.problems import answer_exception
from coordinator.runtime.gateway import Gateway


def create_app(gateway: Gateway) -> Litestar:
    """An ASGI application that answers from this gateway, in whose event loop it must run."""
    metrics = HttpMetrics()
    app = Litestar(
        [
            *invocations.ROUTES,
            *outputs.ROUTES,
            *sends.ROUTES,
            *batches.ROUTES,
            *imports.ROUTES,
            *deployments.ROUTES,
            *sessions.ROUTES,
            *standing.ROUTES,
        ],
        state=State({GATEWAY: gateway, standing.METRICS: metrics}),
        exception_handlers={Exception: answer_exception},  # type: ignore[dict-item] # a Reply is all that is asked of it
        openapi_config=None,  # ours is made from the operations: `openapi`
        logging_config=None,  # ours is structlog
        request_max_body_size=None,  # each route has its own bound: `reading`
    )
    app.asgi_handler = Edge(app.asgi_handler, metrics)
    return app
