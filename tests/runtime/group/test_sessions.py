"""Participants' sessions are where the coordinator is, and one that was replaced is not heeded."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Stream
from coordinator.model import messages
from coordinator.model.messages import Handler, Register, Serve, ServiceSpec
from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Answer
from coordinator.requests.deployments import Registry
from coordinator.runtime.group.sessions import SessionsOfGroup
from coordinator.runtime.requests.known import KnownRequests
from coordinator.stores.memory import MemoryStore
from tests.runtime.group.serving import Brokers

GREETER = (ServiceSpec(name="Greeter", handlers=(Handler(name="greet"),)),)


class Role:
    """The coordinator's role, as far as sessions look at it."""

    def __init__(self, tenure: int | None) -> None:
        self.tenure = tenure
        self.failure: Exception | None = None


class Known(KnownRequests):
    """With one deployment."""

    def __init__(self) -> None:
        super().__init__()
        self._registry = Registry().with_registered(Register(deployment="dp_1", services=GREETER), 0)


def sessions(log: EmbeddedLog, role: Role) -> SessionsOfGroup:
    return SessionsOfGroup(Brokers().directory, log, Known(), "127.0.0.1:1", role)


async def answer_nothing(entries: Sequence[Entry]) -> Sequence[Answer]:
    return ()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - threads have no event of this loop
            await asyncio.sleep(0.01)


def said(log: EmbeddedLog) -> list[Serve]:
    """What partition 0 was told, in order."""
    run = log.read(Stream.COMMANDS, 0, 0, records_max=100, bytes_max=1 << 20)
    return [cast(Serve, messages.decode_command(record.value)) for record in run]


def test_a_role_that_was_lost_and_won_again_begins_anew_under_its_new_tenure(tmp_path: Path) -> None:
    async def scene() -> None:
        log = EmbeddedLog.create_or_open(tmp_path / "log.sqlite", partitions={})
        role = Role(None)
        here = sessions(log, role)
        await here.start(answer_nothing)
        role.tenure = 4
        await until(lambda: here.anywhere)
        first = here.dispatcher
        role.tenure = 9  # nobody has looked in between
        await until(lambda: here.anywhere and here.dispatcher is not first)
        await until(lambda: len(said(log)) == 2)
        assert said(log) == [Serve(lanes=(), reclaim=True, tenure=number) for number in (4, 9)]
        role.tenure = None
        await until(lambda: not here.anywhere)
        await here.close()
        log.close()

    asyncio.run(scene())


def test_what_a_replaced_one_says_when_it_wakes_up_does_not_replace_what_its_successor_serves(tmp_path: Path) -> None:
    async def scene() -> None:
        log = EmbeddedLog.create_or_open(tmp_path / "log.sqlite", partitions={})
        zombie, successor = sessions(log, Role(1)), sessions(log, Role(2))
        for one in (zombie, successor):
            await one.start(answer_nothing)
            await until(lambda one=one: one.anywhere)  # type: ignore[misc]
        successor.dispatcher.open("dp_1", 1)
        await until(lambda: len(said(log)) == 3)
        session = zombie.dispatcher.open("dp_1", 1)
        zombie.dispatcher.leave(session)
        await until(lambda: len(said(log)) == 5)
        assert said(log)[-1] == Serve(lanes=(), tenure=1)
        machine = Machine(MemoryStore(), partition=0, partitions=1)
        answers = [machine.apply(record) for record in log.read(Stream.COMMANDS, 0, 0, records_max=9, bytes_max=9_999)]
        assert [answer and answer.code for answer in answers] == [200, 200, 200, 409, 409]
        assert machine.state.served == ("@dp_1", "Greeter")
        for one in (zombie, successor):
            await one.close()
        log.close()

    asyncio.run(scene())
