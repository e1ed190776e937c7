"""`coordinator serve`: the running system behind HTTP, until a signal ends it."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from coordinator.http.app import create_app
from coordinator.logs.kafka import KafkaSettings
from coordinator.model.errors import CallerError
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.logging import configure_logging
from coordinator.runtime.serve import Role, Running, running
from coordinator.runtime.serve_on_kafka import running_on_kafka
from coordinator.runtime.snapshots.policy import SnapshotPolicy

_SHUTDOWN_S = 3
_STOP_S = 9.5
_OWNERS_S = 10
_LOOK_S = 0.02


@dataclass(frozen=True)
class Settings:
    """What a server is started with."""

    data: Path
    partitions: int | None = None
    """None takes the number that the data has, 4 for new data. On Kafka the topics have it, and another is refused."""
    listen: str = "127.0.0.1:9070"
    kafka: KafkaSettings | None = None
    """None: the log is the embedded one."""
    roles: frozenset[Role] = frozenset(Role)
    advertise: str | None = None
    """HOST:PORT at which other processes reach this one; None takes `listen`."""
    snapshots: SnapshotPolicy | None = None
    """None makes no snapshots and trims nothing."""


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises CallerError when the settings cannot be meant so, LogLockedError when another server has the data.
    """
    configure_logging()
    _check(settings)
    sockets = _bound(settings.listen)
    try:
        asyncio.run(_serve(settings, sockets))
    finally:
        for one in sockets:
            one.close()


def _check(settings: Settings) -> None:
    if settings.kafka is None:
        if settings.roles != frozenset(Role):
            raise CallerError("--roles needs Kafka: on the embedded log one process has all of them", field="roles")
        return
    host, _ = _address(settings.advertise or settings.listen, "--advertise")
    if host in ("0.0.0.0", "::", "*"):  # noqa: S104 - that nobody can be sent there is the point
        text = "--listen is every address of the machine; say with --advertise HOST:PORT which one others reach it at"
        raise CallerError(text, field="advertise")


async def _serve(settings: Settings, sockets: list[socket.socket]) -> None:
    async with _system(settings) as parts:
        config = uvicorn.Config(
            create_app(parts.gateway, parts.worker, parts.kafka, public=Role.HTTP in settings.roles),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        stop_s = None if settings.kafka is None else _STOP_S
        await _Server(config, parts, stop_s).serve(sockets)


@contextlib.asynccontextmanager
async def _system(settings: Settings) -> AsyncIterator[Running]:
    data = DataDirectory(settings.data)
    if settings.kafka is None:
        async with running(data, settings.partitions, settings.snapshots) as gateway:
            yield Running(gateway)
        return
    address = settings.advertise or settings.listen
    async with running_on_kafka(
        settings.kafka, data, settings.roles, address, partitions=settings.partitions, snapshots=settings.snapshots
    ) as parts:
        yield parts


class _Server(uvicorn.Server):
    """Listens once there is something to answer with; ends at a signal and leaves it at that.

    uvicorn raises the signal again once it has shut down, which ends the process before the system is closed. And it
    waits for requests that are under way, so those that may last are ended first.

    On Kafka much of what is ended in order waits for brokers, one thing after the other. So there is one deadline for
    all of it, after which the process ends as it would in a crash: what is not done by then is done again.
    """

    def __init__(self, config: uvicorn.Config, running: Running, stop_s: float | None = None) -> None:
        """`stop_s` is how long the process may take to end once it is told to; None is as long as it takes."""
        super().__init__(config)
        self._running = running
        self._stop_s = stop_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end has come."""
        if self._stop_s is not None and not self.should_exit:
            deadline = threading.Timer(self._stop_s, _end_process, (self._stop_s,))
            deadline.daemon = True
            deadline.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, after every partition was taken over or stands still: who is answered need not come again.

        What takes longer is said by the answers, so that a server in trouble can be asked what it is. On Kafka nothing
        is waited for: the processes need one another to answer.
        """
        end = time.monotonic() + _OWNERS_S
        gateway = None if self._running.kafka is not None else self._running.gateway
        while gateway is not None and gateway.unowned and time.monotonic() < end:
            if self.should_exit:
                return
            await asyncio.sleep(_LOOK_S)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and end those that are under way."""
        self._running.end_waiting()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals while the block runs; the second one of a kind is not waited with."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _end_process(after_s: float) -> None:
    structlog.get_logger().warning("stopped_before_all_was_ended", after_s=after_s)
    os._exit(0)


def _bound(listen: str) -> list[socket.socket]:
    """Sockets at the address, before anything else is begun. Raises CallerError when there can be none."""
    host, port = _address(listen)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
    except OSError as error:
        for one in sockets:
            one.close()
        message = f"--listen {listen} cannot be used ({error.strerror}); stop what listens there, or choose another"
        raise CallerError(message, field="listen") from None
    return sockets


def _address(text: str, option: str = "--listen") -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        field = option.removeprefix("--")
        raise CallerError(f"{option} {text!r} is no address; write HOST:PORT, as 127.0.0.1:9070", field=field)
    return host.strip("[]"), int(port)
