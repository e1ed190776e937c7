"""Looking who is in a group, again and again, and noticing when the brokers are gone."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from coordinator.logs.port import LogError
from coordinator.runtime.group.directory import Directory, Member

EVERY_S: Final = 1.0
AT_ONCE_S: Final = 0.05
"""Time between two looks that somebody asks for."""

OnMembers = Callable[[Sequence[Member]], None]

logger = structlog.get_logger(__name__)


class Watch:
    """Everything in one event loop. What was known last is kept while nobody knows better."""

    def __init__(self, directory: Directory, on_members: OnMembers = lambda members: None) -> None:
        """`on_members` is called after each look that has shown something."""
        self.outages = 0
        """How often the brokers have gone away."""
        self.up = True
        """Whether they answered when they were last asked."""
        self._directory = directory
        self._on_members = on_members
        self._asked = asyncio.Event()
        self._looked = asyncio.Event()
        self._newest: Sequence[Member] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._directory.close()

    def look(self) -> None:
        """Look soon: what is known seems to be out of date."""
        self._asked.set()

    async def looked(self) -> Sequence[Member] | None:
        """Look soon; what a look has shown that began after this call, None when nobody knew."""
        looked = self._looked
        self.look()
        await looked.wait()
        return self._newest

    async def _run(self) -> None:
        while True:
            self._asked.clear()
            self._looked, looking = asyncio.Event(), self._looked
            try:
                await self._look()
            except Exception:
                logger.exception("look_failed")
            finally:
                looking.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()
            await asyncio.sleep(AT_ONCE_S)

    async def _look(self) -> None:
        self._newest = None
        try:
            members = await self._directory.members()
        except LogError as error:
            if self.up:
                self.up = False
                self.outages += 1
                logger.error("broker_gone", reason=str(error))
            return
        if not self.up:
            self.up = True
            logger.info("broker_back")
        self._newest = members
        if members is not None:
            self._on_members(members)
