"""The server without its surfaces: log, coordinator and worker processes, put together and taken apart.

Start-up goes from the log upwards and shut-down the other way round. A SIGKILL at any point is a shut-down
too, after which the same start-up resumes.
"""

import contextlib
from collections.abc import AsyncIterator

import structlog

from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.local_owners import LocalOwners
from coordinator.runtime.requests.role import RequestsRole


@contextlib.asynccontextmanager
async def running(data: DataDirectory, partitions: int | None) -> AsyncIterator[Gateway]:
    """Everything that answers commands and queries on a data directory, until the block ends.

    Raises CallerError when the directory has another number of partitions, LogLockedError when another server
    has it open.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = data.open_log(partitions)
        stack.callback(log.close)
        requests = RequestsRole(log, data.requests, wall_clock_us)
        stack.callback(requests.close)
        owners = LocalOwners(data, log)
        stack.push_async_callback(owners.close)
        gateway = Gateway(log, requests, owners)
        stack.callback(gateway.close)
        gateway.start()
        structlog.get_logger().info("serving", data=str(data.path), partitions=gateway.partitions)
        yield gateway
