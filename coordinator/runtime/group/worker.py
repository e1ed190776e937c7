"""The partitions role on Kafka: a member of the group, and the owners of what it is assigned.

A process that was stopped until its session was over (SIGSTOP, a suspended machine, a long pause for memory) is a
zombie when it goes on: its partitions may belong to others, and it does not know. What its owners append is numbered
and harms nobody, but what it would answer may be old. It notices by the clock that it was away, and answers no
questions until the group says whose the partitions are. The session runs from the last heartbeat that has arrived, and
not from when the process was stopped, so an absence that is shorter by two heartbeats raises the doubt already. A doubt
without reason costs one question to the group.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

import structlog

from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Log, Stream
from coordinator.runtime.group.broken_imports import BrokenImports
from coordinator.runtime.group.directory import Directory
from coordinator.runtime.group.membership import Membership, group
from coordinator.runtime.group.owned import STANDING_EVERY_S, OwnedPartitions
from coordinator.runtime.group.questions import Asked
from coordinator.runtime.group.telling import Telling
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.owned_stores import OwnedStores
from coordinator.runtime.snapshots.policy import SnapshotPolicy

_CLOCK_EVERY_S: Final = 0.25

logger = structlog.get_logger(__name__)


def _clock_s() -> float:
    """A clock that never goes back, and, where there is one, goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class WorkerView(NamedTuple):
    """How this process does as an owner. Numbers are since it began."""

    owned: int
    rebalances: int
    takeovers: int
    revoked: int
    zombies: int


class Worker:
    """Everything in one event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        log: Log,
        data: DataDirectory,
        address: str,
        snapshots: SnapshotPolicy | None = None,
    ) -> None:
        """`address` is where others reach this process, HOST:PORT; `settings` name it."""
        self._address = address
        session_s, heartbeat_s = (
            settings.ms(f"{name}.ms") / 1_000 for name in ("session.timeout", "heartbeat.interval")
        )
        self._away_s_max = max(session_s - 2 * heartbeat_s, session_s / 4)
        """Away for longer than that, its session may be over."""
        self._telling = Telling()
        self._stores = OwnedStores(data, log, snapshots)
        self._owned = OwnedPartitions(data, log, self._stores, self._telling)
        self._membership = Membership(settings, self._assigned, self._owned.doubt, lambda: self._owned.positions)
        self._watch = Watch(Directory(settings, group(settings), Stream.COMMANDS))
        self._broken_imports = BrokenImports(log, self._owned)
        self._zombies = 0
        self._here_at = _clock_s()
        """When this process was last known to run."""
        self._settling: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Join the group."""
        self._stores.start()
        self._membership.start()
        self._watch.start()
        jobs = (self._tell_standings(), self._look_at_clock(), self._broken_imports.run())
        self._tasks = [asyncio.create_task(job) for job in jobs]

    async def close(self) -> None:
        """End the owners, then leave the group: whoever comes next finds all of it done."""
        for task in (*self._tasks, *([self._settling] if self._settling is not None else [])):
            task.cancel()
        self._stores.stop()
        await self._owned.close()
        await self._membership.close()
        await self._watch.close()

    def end_streams(self) -> None:
        """The process is ending: let go of those who listen."""
        self._telling.end()

    def told(self) -> AsyncGenerator[bytes, None]:
        """What the owners tell, as frames."""
        return self._telling.listen()

    async def answer(self, partition: int, asked: Asked) -> Any:
        """Answer a question about a partition; see `OwnedPartitions.answer`."""
        self._notice()
        return await self._owned.answer(partition, asked)

    def unready(self) -> list[str]:
        """Why it does not own what it is to own; empty when it does."""
        if not self._membership.joined:
            return ["this process is not a member of the group"]
        return self._owned.unready()

    def view(self) -> WorkerView:
        """How it does."""
        member = self._membership
        return WorkerView(
            len(self._owned.wanted), member.rebalances, self._owned.takeovers, member.revoked, self._zombies
        )

    @property
    def watch(self) -> Watch:
        """What it knows of its group."""
        return self._watch

    def _assigned(self, partitions: frozenset[int]) -> None:
        self._owned.own(partitions)

    # -- having been away ------------------------------------------------------------------------------------

    async def _look_at_clock(self) -> None:
        while True:
            self._notice()
            await asyncio.sleep(_CLOCK_EVERY_S)

    def _notice(self) -> None:
        """Notice when this process has been away for so long that its session may be over."""
        now = _clock_s()
        away_s, self._here_at = now - self._here_at, now
        if away_s <= self._away_s_max or not self._owned.wanted:
            return
        self._zombies += 1
        self._owned.doubt()
        logger.warning("zombie_noticed", away_s=round(away_s, 1), owned=sorted(self._owned.wanted))
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        """Learn from the group what is still this process's, unless an assignment says so first, or has to."""
        while self._is_unsettled():
            members = await self._watch.looked()
            if members is None or not self._is_unsettled():
                continue
            mine = frozenset[int]().union(*(one.partitions for one in members if one.address == self._address))
            kept, lost = self._owned.wanted & mine, self._owned.wanted - mine
            logger.info("zombie_settled", kept=sorted(kept), lost=sorted(lost))
            self._membership.lost(lost)
            self._owned.own(kept)

    def _is_unsettled(self) -> bool:
        return self._owned.doubted and self._membership.joined

    async def _tell_standings(self) -> None:
        while True:
            await asyncio.sleep(STANDING_EVERY_S)
            try:
                self._owned.tell_standings()
            except Exception:
                logger.exception("standings_not_told")
