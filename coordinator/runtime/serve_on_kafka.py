"""The server on Kafka, without its surfaces: the roles of one process out of several.

A process with the http role, or with the requests role and so with participants' sessions, has a gateway: it appends
commands and waits for what their owners say. A process that only owns partitions has none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

import structlog

from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.port import LogError, Stream
from coordinator.model.errors import CallerError
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.directory import Directory, answering_at
from coordinator.runtime.group.membership import group
from coordinator.runtime.group.remote_owners import RemoteOwners
from coordinator.runtime.group.sessions import SessionsOfGroup
from coordinator.runtime.group.worker import Worker
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.requests import application
from coordinator.runtime.requests.faust_role import FaustRole
from coordinator.runtime.requests.replica import RequestsReplica
from coordinator.runtime.serve import Role, Running
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.stores.archive import SnapshotArchive


@contextlib.asynccontextmanager
async def running_on_kafka(
    settings: KafkaSettings,
    data: DataDirectory,
    roles: Collection[Role],
    address: str,
    *,
    partitions: int | None = None,
    snapshots: SnapshotPolicy | None = None,
) -> AsyncIterator[Running]:
    """The roles of this process, which others reach at `address` (HOST:PORT), until the block ends.

    Raises LogError when no broker answers or the topics are not there, CallerError when the topics have another number
    of partitions than is asked for, or the data directory or the place of the snapshots cannot be used. Raises
    LogLockedError when another process has the data directory. One that has the http role alone keeps nothing there,
    and does not take it.
    """
    settings = answering_at(settings, address)  # it is by this name that the others find this process
    data.make()
    async with contextlib.AsyncExitStack() as stack:
        if Role.PARTITIONS in roles or Role.REQUESTS in roles:
            stack.callback(data.lock().release)
        if snapshots is not None:
            SnapshotArchive(snapshots.place, make=True)
        log = await asyncio.to_thread(KafkaLog, settings)
        stack.push_async_callback(asyncio.to_thread, log.close)
        if partitions not in (None, log.partitions(Stream.COMMANDS)):
            raise CallerError(
                f"{settings.topic(Stream.COMMANDS)} has {log.partitions(Stream.COMMANDS)} partitions and --partitions "
                f"is {partitions}; leave it out, or make other topics with coordinator topics create",
                field="partitions",
            )
        worker = gateway = None
        if Role.PARTITIONS in roles:
            worker = Worker(settings, log, data, address, snapshots)
            stack.push_async_callback(worker.close)
            worker.start()
        kafka = None if worker is None else worker.watch
        if Role.HTTP in roles or Role.REQUESTS in roles:
            role = None
            if Role.REQUESTS in roles:
                role = FaustRole(settings, log, data.faust, wall_clock_us)
                stack.push_async_callback(asyncio.to_thread, role.close)
            requests = await asyncio.to_thread(_replica, settings, log, role)
            stack.push_async_callback(asyncio.to_thread, requests.close)
            owners = RemoteOwners(
                Directory(settings, group(settings), Stream.COMMANDS), log.partitions(Stream.COMMANDS)
            )
            stack.push_async_callback(owners.close)
            coordinators = Directory(settings, application.group(settings), Stream.REQUESTS)
            sessions = SessionsOfGroup(coordinators, log, requests, address, role)
            gateway = Gateway(log, requests, owners, sessions)
            stack.push_async_callback(gateway.close)
            await gateway.start()
            kafka = kafka or owners.watch
        structlog.get_logger().info("serving", roles=sorted(roles), data=str(data.path), address=address)
        yield Running(gateway, worker, kafka)


def _replica(settings: KafkaSettings, log: KafkaLog, role: FaustRole | None) -> RequestsReplica:
    """What this process sees of the coordinator's state, whether or not it is the coordinator."""
    shadowed = (lambda key: None) if role is None else role.repair
    try:
        return RequestsReplica(settings.changelog, settings.client(), log=log.identity, shadowed=shadowed)
    except UnavailableError as error:
        raise LogError(str(error)) from error
