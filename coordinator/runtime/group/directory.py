"""Who is in a consumer group, as the brokers say: the only registry of processes that there is.

A member's client id is NAME@HOST:PORT: a name that users may choose, and where that process answers. So the description
of a group tells both who owns a partition and where it is to be asked.
"""

from dataclasses import replace
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NoError,
    NotCoordinatorForGroupError,
    for_code,
)

from coordinator.logs.kafka.errors import errors_of
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Stream

_SETTLED: Final = frozenset(("Stable", "Empty", "Dead"))
"""States in which what a group says of its members is whole."""

_UNSETTLED: Final = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
"""The brokers are there, and have yet to agree which of them looks after the group."""


class Member(NamedTuple):
    """A process in a group."""

    address: str
    """HOST:PORT, where it answers."""
    partitions: frozenset[int]
    """Of the stream that was asked for."""


def answering_at(settings: KafkaSettings, address: str) -> KafkaSettings:
    """The settings of a process that answers there: its client id says so."""
    name = f"{settings.client_id}@{address}"
    return replace(settings, properties={**settings.properties, "client.id": name})


class Directory:
    """One group's members. All calls in one event loop."""

    def __init__(self, settings: KafkaSettings, group: str, stream: Stream) -> None:
        """`stream` is the one whose partitions matter."""
        self._settings = settings
        self._group = group
        self._topic = settings.topic(stream)
        self._admin: AIOKafkaAdminClient | None = None

    async def members(self) -> list[Member] | None:
        """Its members now; None while nobody knows, because it is rebalancing.

        Raises LogError when no broker answers, or this client may not ask.
        """
        with errors_of(self._settings, f"looking for the members of {self._group}"):
            admin = self._admin or await self._open()
            try:
                [answer] = await admin.describe_consumer_groups([self._group])
            except _UNSETTLED:
                return None
            [(code, _, state, _, _, members, *_)] = answer.groups
            error = for_code(code)
            if error in _UNSETTLED:
                return None
            if error is not NoError:
                raise error(self._group)
        if state not in _SETTLED:
            return None
        return [
            Member(client.rpartition("@")[2], self._partitions(assignment))
            for _, client, _, _, assignment in map(_fields, members)
            if "@" in client
        ]

    async def close(self) -> None:
        """Disconnect."""
        if self._admin is not None:
            await self._admin.close()

    async def _open(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**self._settings.client())
        try:
            await admin.start()
        except BaseException:
            await admin.close()
            raise
        self._admin = admin
        return admin

    def _partitions(self, assignment: bytes) -> frozenset[int]:
        if not assignment:
            return frozenset()
        topics = ConsumerProtocolMemberAssignment.decode(assignment).assignment
        return frozenset(number for topic, numbers in topics if topic == self._topic for number in numbers)


def _fields(member: Any) -> tuple[str, str, str, bytes, bytes]:
    """(member id, client id, host, metadata, assignment), whatever a newer answer has besides."""
    id, client, host, metadata, assignment = member[:5]
    return id, client, host, metadata, assignment
