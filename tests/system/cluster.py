"""A whole system with two or more processes of each role on a broker of its own, and the faults it is put through.

Each fault is waited out by what it leads to (another owner, a coordinator that has taken over, a zombie that has
noticed), and then until work goes on: every process that runs is ready, and clients are answered again.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coordinator.logs.port import LogError, Stream
from coordinator.runtime.group import membership
from coordinator.runtime.group.directory import Directory
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.requests import application
from tests.kafka.broker import Broker
from tests.simulation import settings
from tests.system.kafka import Process, System
from tests.system.load import Load

SESSION_S: Final = 3
BROKER: Final = {"group.min.session.timeout.ms": "1000"}
PATIENCE_S: Final = 300 if settings.LONG else 120
"""A deadline and no expectation: machines that run tests are busy."""
LOOK_S: Final = 0.1
KINDS: Final = ("sends", "single actions", "batches")
"""Of each of them one must have been acknowledged for work to go on."""


class Cluster(System):
    """Two workers and one in reserve, two coordinators, two that serve HTTP; none is started."""

    def __init__(self, directory: Path, broker: Broker) -> None:
        super().__init__(directory, broker.bootstrap)
        self.broker = broker
        member = {"session_timeout_ms": str(SESSION_S * 1_000), "heartbeat_interval_ms": "500"}
        self.workers = [self.process_with("partitions", **member) for _ in range(2)]
        self.coordinators = [self.process_with("requests", **member) for _ in range(2)]
        self.fronts = [self.process_with("http") for _ in range(2)]
        self.spare = self.process_with("partitions", **member)
        self.front(self.fronts[0])

    @property
    def running(self) -> list[Process]:
        """Those that were started and not ended by us."""
        return [process for process in self.processes if process.process is not None]

    def all_ready(self) -> bool:
        """Whether each that runs says that it is ready."""
        return all(process.is_ready() for process in self.running)

    def newest_stores(self) -> list[Path]:
        """The store of each partition that its owner has."""
        data = {process.address: process.data for process in self.processes}
        owners = self.owners()
        return [data[owners[number] or ""] / f"partition-{number}.sqlite" for number in range(self.partitions)]

    def directories(self) -> list[Path]:
        """Where workers have had stores."""
        return [process.data for process in (*self.workers, self.spare) if DataDirectory(process.data).stores()]


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """One whose processes are started, but for the one in reserve, and ready."""
    (directory / "broker").mkdir()
    broker = Broker(directory / "broker", settings=BROKER)
    broker.start()
    try:
        with Cluster(directory / "system", broker) as of:
            for process in (*of.workers, *of.coordinators, *of.fronts):
                process.start()
            asyncio.run(until(of.all_ready, says=of.said))
            yield of
    finally:
        broker.resume()
        broker.kill()


async def until(holds: Callable[[], bool], *, says: Callable[[], str], within_s: float = PATIENCE_S) -> None:
    """Return once it holds; for what has no event that could be waited for."""
    end = time.monotonic() + within_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, f"not within {within_s} s; {says()}"
        await asyncio.sleep(LOOK_S)


class Groups:
    """Who owns what, as the brokers say."""

    def __init__(self, of: Cluster) -> None:
        self._workers = Directory(of.settings, membership.group(of.settings), Stream.COMMANDS)
        self._coordinators = Directory(of.settings, application.group(of.settings), Stream.REQUESTS)
        self._of = of

    async def owners(self) -> dict[int, Process]:
        """The owner of each partition; of those only that have one."""
        return await self._members(self._workers)

    async def coordinator(self) -> Process | None:
        """The one that is it."""
        return (await self._members(self._coordinators)).get(0)

    async def _members(self, directory: Directory) -> dict[int, Process]:
        by_address = {process.address: process for process in self._of.processes}
        try:
            members = await directory.members() or []
        except LogError:
            return {}
        return {number: by_address[member.address] for member in members for number in member.partitions}

    async def close(self) -> None:
        await self._workers.close()
        await self._coordinators.close()


class Faults:
    """Does to a cluster what happens to one. All in the event loop of its clients."""

    def __init__(self, of: Cluster, load: Load, rng: random.Random, *, outage_s: float) -> None:
        self.done: Counter[str] = Counter()
        self.took_s: dict[str, list[float]] = {}
        """How long it was from each fault, by kind, until work went on."""
        self._of = of
        self._load = load
        self._rng = rng
        self._outage_s = outage_s
        self._groups = Groups(of)
        self._ways: dict[str, Callable[[], Awaitable[None]]] = {
            "worker killed": self._kill_worker,
            "coordinator killed": self._kill_coordinator,
            "http killed": self._kill_front,
            "rebalance": self._rebalance,
            "zombie worker": self._zombie_worker,
            "zombie coordinator": self._zombie_coordinator,
            "broker killed": self._kill_broker,
            "outage": self._outage,
        }

    async def do(self, fault: str) -> None:
        """One of them, until work goes on."""
        began = time.monotonic()
        await self._ways[fault]()
        await self.until_work_goes_on()
        self.done[fault] += 1
        self.took_s.setdefault(fault, []).append(round(time.monotonic() - began, 1))

    async def until_work_goes_on(self) -> None:
        """Return once all that runs is ready, and something of each kind was acknowledged from now on."""
        await self._until(self._of.all_ready)
        before = self._load.promises.acknowledged.copy()
        after = self._load.promises.acknowledged
        await self._until(lambda: all(after[kind] > before[kind] for kind in KINDS))

    async def close(self) -> None:
        """Let go of the broker."""
        await self._groups.close()

    # -- each of them ----------------------------------------------------------------------------------------

    async def _kill_worker(self) -> None:
        victim = self._rng.choice([one for one in (*self._of.workers, self._of.spare) if one.process is not None])
        await self._kill(victim, lambda: self._owned_by_others(victim))

    async def _kill_coordinator(self) -> None:
        victim = await self._coordinator()
        await self._kill(victim, lambda: self._another_is_coordinator(victim))

    async def _kill_front(self) -> None:
        victim = self._rng.choice(self._of.fronts)
        victim.kill()
        victim.start()

    async def _kill(self, victim: Process, is_replaced: Callable[[], Awaitable[bool]]) -> None:
        """Sometimes it comes back at once, sometimes when others have taken its place."""
        victim.kill()
        if self._rng.random() < 0.5:
            await self._until_async(is_replaced)
        victim.start()

    async def _rebalance(self) -> None:
        """The one in reserve joins, or leaves in order."""
        spare = self._of.spare
        if spare.process is None:
            spare.start()
            await self._until_async(lambda: self._owns(spare))
        else:
            assert await asyncio.to_thread(spare.stop) == 0
            await self._until_async(lambda: self._owned_by_others(spare))

    async def _zombie_worker(self) -> None:
        owners: dict[int, Process] = {}
        while not owners:
            owners = await self._groups.owners()
        victim = self._rng.choice(list(owners.values()))
        noticed = victim.metric("coordinator_worker_zombies_total")
        victim.signal(signal.SIGSTOP)
        try:
            await self._until_async(lambda: self._owned_by_others(victim))
            await self._away()
        finally:
            victim.signal(signal.SIGCONT)
        await self._until(lambda: victim.metric("coordinator_worker_zombies_total") > noticed)

    async def _zombie_coordinator(self) -> None:
        victim = await self._coordinator()
        let_go = victim.events().count("requests_let_go")
        victim.signal(signal.SIGSTOP)
        try:
            await self._until_async(lambda: self._another_is_coordinator(victim))
            await self._away()
        finally:
            victim.signal(signal.SIGCONT)
        await self._until(lambda: victim.events().count("requests_let_go") > let_go)

    async def _away(self) -> None:
        """What is stopped must be so for longer than its session lasts, while others go on."""
        before = self._load.promises.acknowledged.copy()
        after = self._load.promises.acknowledged
        await asyncio.sleep(SESSION_S)
        await self._until(lambda: after["sends"] > before["sends"])

    async def _kill_broker(self) -> None:
        self._of.broker.kill()
        await asyncio.to_thread(self._of.broker.start)

    async def _outage(self) -> None:
        self._of.broker.kill()
        await asyncio.sleep(self._outage_s)
        await asyncio.to_thread(self._of.broker.start)

    # -- what they lead to -----------------------------------------------------------------------------------

    async def _coordinator(self) -> Process:
        while (found := await self._groups.coordinator()) is None:  # noqa: ASYNC110 - the brokers know, and tell nobody
            await asyncio.sleep(LOOK_S)
        return found

    async def _owned_by_others(self, process: Process) -> bool:
        owners = await self._groups.owners()
        return len(owners) == self._of.partitions and process not in owners.values()

    async def _owns(self, process: Process) -> bool:
        return process in (await self._groups.owners()).values()

    async def _another_is_coordinator(self, process: Process) -> bool:
        return await self._groups.coordinator() not in (process, None)

    async def _until(self, holds: Callable[[], bool]) -> None:
        await until(holds, says=self._of.said)

    async def _until_async(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110 - others do it
                await asyncio.sleep(LOOK_S)
