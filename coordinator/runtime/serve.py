"""The server without its surfaces: what the roles of a process need, put together and taken apart.

Start-up goes from the log upwards and shut-down the other way round. A SIGKILL at any point is a shut-down
too, after which the same start-up resumes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import NamedTuple

import structlog

from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.dispatch.port import SessionsHere
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.group.worker import Worker
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.local_owners import LocalOwners
from coordinator.runtime.requests.role import RequestsRole
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.stores.archive import SnapshotArchive


class Role(StrEnum):
    """What a process may be there for. On the embedded log one process has all of them."""

    PARTITIONS = "partitions"
    """Own partitions: apply their logs to their stores."""
    REQUESTS = "requests"
    """Be the coordinator, or its stand-in, and with it the place of participants' sessions."""
    HTTP = "http"
    """Answer users."""


class Running(NamedTuple):
    """What there is in this process."""

    gateway: Gateway | None
    worker: Worker | None = None
    kafka: Watch | None = None

    def end_waiting(self) -> None:
        """The process is ending: let go of those who wait for what may be long in coming."""
        if self.gateway is not None:
            self.gateway.end_waiting()
        if self.worker is not None:
            self.worker.end_streams()


@contextlib.asynccontextmanager
async def running(
    data: DataDirectory, partitions: int | None, snapshots: SnapshotPolicy | None = None
) -> AsyncIterator[Gateway]:
    """Everything that answers commands and queries on a data directory, until the block ends.

    Raises CallerError when the directory has another number of partitions or snapshots cannot go where the policy
    says, LogLockedError when another server has it open.
    """
    if snapshots is not None:
        SnapshotArchive(snapshots.place, make=True)
    async with contextlib.AsyncExitStack() as stack:
        log = data.open_log(partitions)
        stack.callback(log.close)
        requests = RequestsRole(log, data.requests, wall_clock_us)
        stack.callback(requests.close)
        owners = LocalOwners(data, log, snapshots)
        stack.push_async_callback(owners.close)
        gateway = Gateway(log, requests, owners, SessionsHere(log, requests))
        stack.push_async_callback(gateway.close)
        await gateway.start()
        resuming = asyncio.create_task(gateway.end_broken_imports())
        stack.callback(resuming.cancel)
        structlog.get_logger().info("serving", data=str(data.path), partitions=gateway.partitions)
        yield gateway
