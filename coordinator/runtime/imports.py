"""Importing: lines of a file become `import` records, in groups, a bounded number at a time.

Nothing of the file is kept but the group under way, so a file may be larger than memory. A line that cannot
be taken is reported with its number; the rest goes on.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model.errors import CallerError, TransientError
from coordinator.model.ids import partition_of
from coordinator.model.messages import Command, Import, ImportEnd, encode
from coordinator.model.restate_rows import parse_row
from coordinator.partition.imports import EXISTING
from coordinator.partition.outputs import Answer
from coordinator.runtime.requests.outbox import Backoff

GROUP: Final = 500
UNDER_WAY: Final = 4
"""Groups appended and not yet answered."""
ERRORS_SHOWN: Final = 1_000

SendAll = Callable[[Sequence[tuple[int, Command]]], Awaitable[list[Answer]]]
"""Appends commands to their partitions and waits until all are applied."""


class RefusedLine(msgspec.Struct, frozen=True):
    """A line that was not taken."""

    line: int
    reason: str


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of the lines of a file."""

    imported: int = 0
    existing: int = 0
    """Were there before and are left alone."""
    failed: int = 0
    errors: list[RefusedLine] = msgspec.field(default_factory=list)
    """The first so many of the failed lines."""

    def refuse(self, line: int, reason: str) -> None:
        """Note a line that was not taken."""
        self.failed += 1
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append(RefusedLine(line, reason))


class ImportEnds:
    """Ends imports on partitions whose log does not take it at once. All calls in one event loop."""

    def __init__(self, log: Log, partitions: int) -> None:
        self._log = log
        self._partitions = partitions
        self._under_way: set[asyncio.Task[None]] = set()

    async def end(self, partition: int) -> None:
        """Append the end, again and again until the log has it; twice does no harm."""
        entry = Entry(Stream.COMMANDS, partition, encode(ImportEnd()))
        backoff = Backoff()
        while True:
            try:
                await asyncio.wrap_future(self._log.submit([entry]))
                return
            except LogError as error:
                structlog.get_logger().warning("import_not_ended", partition=partition, error=str(error))
                backoff.failed()
                await asyncio.sleep(backoff.left_s)

    def end_later(self) -> None:
        """End on all partitions, in the background: keys without a holder must not wait for the next start."""
        for partition in range(self._partitions):
            task = asyncio.create_task(self.end(partition))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def close(self) -> None:
        """Try no longer: whoever comes next ends what is left."""
        for task in self._under_way:
            task.cancel()


async def import_rows(
    lines: AsyncIterator[bytes], partitions: int, send_all: SendAll, end_later: Callable[[], None]
) -> ImportReport:
    """Append a record for each line and wait until all of them are applied.

    `end_later` is called when the end of the import could not be told to the partitions: it is to be tried again.
    """
    report = ImportReport()
    under_way: deque[asyncio.Task[None]] = deque()
    group: list[tuple[int, Import]] = []
    number = 0
    try:
        async for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                row = parse_row(line)
                partition_of(row.id, partitions)
            except CallerError as error:
                report.refuse(number, str(error))
                continue
            group.append((number, row))
            if len(group) == GROUP:
                if len(under_way) == UNDER_WAY:
                    await under_way.popleft()
                under_way.append(asyncio.create_task(_send(group, partitions, send_all, report)))
                group = []
        under_way.append(asyncio.create_task(_send(group, partitions, send_all, report)))
        while under_way:
            await under_way.popleft()
    finally:
        # Also when the lines broke off: what was appended stays, and its keys must not be left waiting.
        await asyncio.gather(*under_way, return_exceptions=True)
        try:
            await send_all([(partition, ImportEnd()) for partition in range(partitions)])
        except TransientError:
            end_later()
            raise
    report.errors.sort(key=lambda refused: refused.line)
    return report


async def _send(group: Sequence[tuple[int, Import]], partitions: int, send_all: SendAll, report: ImportReport) -> None:
    if not group:
        return
    answers = await send_all([(partition_of(row.id, partitions), row) for _, row in group])
    for (number, _), answer in zip(group, answers, strict=True):
        if answer.code >= 400:
            report.refuse(number, answer.detail or "it was refused")
        elif answer.status == EXISTING:
            report.existing += 1
        else:
            report.imported += 1
