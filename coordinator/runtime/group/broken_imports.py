"""Ending imports that nobody ends any more.

Who carries an import ends it, too, whatever becomes of its client. But a process that is killed does not, and then keys
are left that nobody hands on. Any number of processes take imports, so none of them can tell whether one is broken or
only under way elsewhere. The owner of the partition can: no import has left a key behind for a minute.
"""

import asyncio
from typing import Final

import structlog

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model import messages
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.runtime.group.owned import NotOwnedError, OwnedPartitions
from coordinator.runtime.group.questions import AskSummary
from coordinator.runtime.views import PartitionSummary

SILENT_S: Final = 60.0

logger = structlog.get_logger(__name__)


class BrokenImports:
    """Looks after the partitions of this process."""

    def __init__(self, log: Log, owned: OwnedPartitions) -> None:
        self._log = log
        self._owned = owned
        self._seen: dict[int, int] = {}
        """Where the last such key was left, per partition with one, a look ago."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                logger.exception("broken_imports_not_looked_for", again_after_s=SILENT_S)
            await asyncio.sleep(SILENT_S)

    async def look(self) -> None:
        """End the imports that had left keys at the last look, and none since."""
        seen: dict[int, int] = {}
        for partition in self._owned.positions:
            try:
                summary: PartitionSummary = await self._owned.answer(partition, AskSummary(-1))
            except (NotOwnedError, TransientError, CorruptionError):
                continue  # its owner says so, or the next one
            if not summary.loose_keys:
                continue
            seen[partition] = summary.loose_at
            if self._seen.get(partition) == summary.loose_at:
                await self._end(partition)
        self._seen = seen

    async def _end(self, partition: int) -> None:
        """Append the end; what fails is tried again at the next look, since the keys are still there."""
        entry = Entry(Stream.COMMANDS, partition, messages.encode(messages.ImportEnd()))
        try:
            await asyncio.wrap_future(self._log.submit([entry]))
        except LogError as error:
            logger.warning("broken_import_not_ended", partition=partition, error=str(error))
        else:
            logger.warning("broken_import_ended", partition=partition)
