"""Serving services: register the deployment, open a session, and another one whenever that is over."""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog

from coordinator.model import limits
from coordinator.model.errors import NotFoundError, TransientError
from coordinator.model.messages import ServiceSpec
from coordinator.participant.backoff import Backoff
from coordinator.participant.http import HttpTransport
from coordinator.participant.runner import Runner
from coordinator.participant.services import AnyService
from coordinator.participant.session import Session
from coordinator.participant.transport import Transport
from coordinator.participant.values import duration_us

URL_DEFAULT: Final = "http://127.0.0.1:9070"
CAPACITY_DEFAULT: Final = 1_000
_ID_HEX_DIGITS: Final = 16


async def serve(
    *services: AnyService,
    url: str | None = None,
    token: str | None = None,
    deployment: str | None = None,
    capacity: int = CAPACITY_DEFAULT,
    inactivity: str | float | timedelta = "200ms",
    transport: Transport | None = None,
) -> None:
    """Run the services' handlers, until this is cancelled; then leave, and give back what is not done.

    `url` and `token` come from COORDINATOR_URL and COORDINATOR_TOKEN where they are left out. A server that is away is
    waited for. `deployment` names the version of this code; without it, it is a digest of the names of services and
    handlers. `capacity`: attempts to take at once. `inactivity`: how long a handler may wait, holding its place,
    before it is suspended. `transport`: another way than HTTP to a dispatcher, in this process for example.

    Raises ConflictError when another deployment has this id, ValueError when there is nothing to serve.
    """
    if transport is not None:
        await _serve(
            transport, services, deployment=deployment, capacity=capacity, inactivity_us=duration_us(inactivity)
        )
        return
    url = url or os.environ.get("COORDINATOR_URL") or URL_DEFAULT
    token = token or os.environ.get("COORDINATOR_TOKEN") or None
    async with HttpTransport(url, token) as http:
        await serve(*services, transport=http, deployment=deployment, capacity=capacity, inactivity=inactivity)


def run(*services: AnyService, **options: Any) -> None:
    """`serve`, as the whole of a process: until SIGTERM or SIGINT, upon which it leaves."""

    async def main() -> None:
        task = asyncio.ensure_future(serve(*services, **options))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def deployment_id(specs: Sequence[ServiceSpec]) -> str:
    """The id of a deployment that was given none: the same services and handlers, the same id."""
    digest = hashlib.sha256(msgspec.msgpack.encode(sorted(specs, key=lambda spec: spec.name)))
    return f"dp_{digest.hexdigest()[:_ID_HEX_DIGITS]}"


def _specs(services: Sequence[AnyService]) -> tuple[ServiceSpec, ...]:
    if not services:
        raise ValueError("there is nothing to serve; pass the services, as in serve(greeter)")
    names = [service.name for service in services]
    for service in services:
        if names.count(service.name) > 1:
            raise ValueError(f"there are two services {service.name}; give one of them another name")
        if not service.handlers:
            raise ValueError(f"{service.name} has no handlers; declare one with @{service.name.lower()}.handler")
    return tuple(service.spec() for service in services)


async def _serve(
    transport: Transport, services: Sequence[AnyService], *, deployment: str | None, capacity: int, inactivity_us: int
) -> None:
    specs = _specs(services)
    deployment = deployment or deployment_id(specs)
    log = structlog.get_logger("coordinator.participant").bind(deployment=deployment)
    capacity = min(capacity, limits.SESSION_CAPACITY_MAX)
    backoff = Backoff()
    while True:
        try:
            # Each time: a server that has lost its data has lost the deployment, too.
            await transport.register(deployment, specs)
            id, lease_s = await transport.open(deployment, capacity)
        except (TransientError, NotFoundError) as error:
            log.warning("no session yet", error=str(error))
            await backoff.pause()
            continue
        backoff.succeeded()
        log.info("serving", session=id, services=[spec.name for spec in specs])
        try:
            runner = Runner(services, deployment, inactivity_us)
            await Session(transport, id, lease_s, runner).run()
        except NotFoundError as error:
            log.warning("session is over", session=id, error=str(error))
