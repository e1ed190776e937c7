"""Who is in a group, by what brokers say of it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Stream
from coordinator.runtime.group.directory import Directory, Member, answering_at


class Admin:
    """A cluster with one group, whose members have these client ids, and a partition each."""

    def __init__(self, *clients: str) -> None:
        self._clients = clients

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        members = [
            (f"member-{number}", client, "host", b"", owning(number)) for number, client in enumerate(self._clients)
        ]
        return [SimpleNamespace(groups=[(0, groups[0], "Stable", "consumer", "sticky", members)])]


def owning(partition: int) -> bytes:
    assignment = [("coordinator.commands", [partition]), ("coordinator.progress", [9])]
    return bytes(ConsumerProtocolMemberAssignment(0, assignment, b"").encode())


def test_processes_are_found_under_whatever_name_their_settings_give_them() -> None:
    settings = KafkaSettings("broker:9092")
    named = KafkaSettings("broker:9092", {"client.id": "billing@eu"})
    clients = [answering_at(of, address).client()["client_id"] for of, address in ((settings, "a:1"), (named, "b:2"))]
    assert clients == ["coordinator@a:1", "billing@eu@b:2"]
    directory = Directory(settings, "group", Stream.COMMANDS)
    directory._admin = cast(AIOKafkaAdminClient, Admin(*clients, "somebody-else"))
    assert asyncio.run(directory.members()) == [Member("a:1", frozenset((0,))), Member("b:2", frozenset((1,)))]
