"""The coordinator role on Kafka: a Faust application that folds, in a thread with an event loop of its own.

One process of all that have this role owns `requests` and `progress`; the others wait for their turn. What has arrived
meanwhile is folded as one run, in this order: its effects appended and acknowledged, the rows that it changes on the
changelog and acknowledged, at last the one that speaks for all, then the records. So a record is folded at least once,
and into what is stored once: rows say how far they go. Effects may be appended again, and are known by request and
revision. Surfaces read the rows (`replica`), here as everywhere.

The clock is looked at only to append a `Lapse` when a request is due or may be forgotten, as in the role over the
embedded log. Here forgetting goes by the log too: a successor has to forget the same.

What fails and may pass, such as a broker that is away, is tried again: the append by itself, all else with a new
application. What contradicts itself stops the role loudly.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

import faust
import structlog

from coordinator.logs.kafka.errors import BEGIN_ANEW
from coordinator.logs.kafka.log import KafkaLog
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Bounds, Entry, LogError, LogReplacedError, Record, Stream, TrimmedError
from coordinator.model import limits, messages
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.model.messages import Lapse
from coordinator.runtime.clock import Clock
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.application import application, check_topics
from coordinator.runtime.requests.changelog import Change
from coordinator.runtime.requests.known import READ
from coordinator.runtime.requests.outbox import Backoff, bounded
from coordinator.runtime.requests.table import Table
from coordinator.runtime.requests.tenure import Tenure

STOP_S: Final = 7.0
"""How long Faust may take to stop; what it has not done by then it never does."""
CLOSE_S: Final = 8.5
"""How long is waited for it, also where it waits for a thread and cannot be interrupted."""
LOOK_S: Final = 0.1
"""How often it looks at the clock, and whether the application still runs."""
MISSED_S: Final = 1.0
"""How long nothing is folded before it looks whether there is something to fold."""
RECOVERY_S: Final = 30.0
"""How long Faust may take to recover the table at first; each time that it has not, twice as long."""
FORGET_EVERY_US: Final = 60 * limits.SECOND_US

_logger: Final = structlog.get_logger()


class FaustRole:
    """The coordinator in this process, or its stand-in, from its construction until `close`. From any thread."""

    def __init__(self, settings: KafkaSettings, log: KafkaLog, directory: Path, now_us: Clock) -> None:
        """Start. What Faust wants to keep on disk goes to `directory`; none of it is needed again."""
        self._settings = settings
        self._log = log
        self._directory = directory
        self._now_us = now_us
        self._partitions = log.partitions(Stream.COMMANDS)
        self._table: Table | None = None
        self._tenure: Tenure | None = None
        self._failure: Exception | None = None
        self._trouble: Exception | None = None
        self._closing = False
        self._backoff = Backoff()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._folding = asyncio.Lock()
        self._forget_look_at = 0
        self._missed_look_at = 0.0
        self._given_at: float | None = None
        self._recovery_s = RECOVERY_S
        self._positions_seen: dict[Stream, int] | None = None
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    @property
    def tenure(self) -> int | None:
        """The number of its tenure, higher than those of all before it, on this changelog or another.

        None while this process is not the one that folds, or has not folded all that was there when it took over.
        """
        tenure = self._tenure
        return tenure.number if tenure is not None and tenure.caught_up else None

    @property
    def failure(self) -> Exception | None:
        """Why it has stopped by itself. Nothing more is folded here until that is mended and it is started again."""
        return self._failure

    def repair(self, key: bytes) -> None:
        """The changelog's newest row of this key is void: write it again, if this process is the one that does."""
        self._call_soon(self._shadow, key)

    def wake(self) -> None:
        """Look at the clock now: for one that is not the wall's."""
        self._call_soon(self._woken.set)

    def close(self) -> None:
        """Stop, within 10 s: what is not acknowledged by then is folded again at the next start."""
        self._closing = True
        self.wake()
        self._thread.join(CLOSE_S)

    def _call_soon(self, function: Callable[..., None], *arguments: object) -> None:
        """In the loop, if there is one (still)."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *arguments)

    def _shadow(self, key: bytes) -> None:
        if self._tenure is not None:
            self._tenure.shadow(key)

    # -- its life --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:  # whatever it is, whoever looks must learn that it has stopped
            _logger.error("requests_stopped", error=str(error), exc_info=error)
            self._failure = self._failure or error

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._over:
            self._trouble = None
            try:
                self._check_log()
                await check_topics(self._settings)
                await self._serve(application(self._settings, self._directory, self))
            except CorruptionError:
                raise
            except Exception as error:  # Faust's and Kafka's, of which there are many; what may pass is tried again
                _logger.warning("requests_application_failed", error=str(error), exc_info=error)
                self._backoff.failed()
            while self._backoff.left_s and not self._over:
                await self._pause(self._backoff.left_s)

    async def _serve(self, app: faust.App) -> None:
        """Run the application until this role is to end, or the application does by itself."""
        starting = asyncio.ensure_future(app.start())
        try:
            while not self._over and not app.should_stop:
                if self._trouble is not None:
                    raise self._trouble
                self._check_log()
                self._check_recovery()
                if starting.done():
                    starting.result()
                await self._look_at_clock()
                await self._look_for_missed()
                await self._pause(LOOK_S)
        finally:
            self.lost()
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await app.stop()
        if not self._over:
            raise TransientError("the Faust application ended by itself; its log says why")

    def _check_log(self) -> None:
        """Faust knows topics by their names only, and goes on with another one; the log knows."""
        try:
            self._log.check()
        except LogReplacedError as error:
            raise CorruptionError(str(error)) from error

    def _check_recovery(self) -> None:
        """After the brokers were away Faust may wait for good for what it recovers from."""
        if self._given_at is not None and time.monotonic() - self._given_at > self._recovery_s:
            self._recovery_s *= 2
            raise TransientError("Faust does not come to an end with recovering its table")

    async def _pause(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._woken.wait()
        self._woken.clear()

    @property
    def _over(self) -> bool:
        return self._closing or self._failure is not None

    def _give_up(self, error: Exception) -> None:
        """Fold nothing more: for good when it is a contradiction, else until there is another application."""
        self._tenure = None
        if isinstance(error, CorruptionError):
            self._failure = error
        self._trouble = error
        self._woken.set()

    # -- what the application calls --------------------------------------------------------------------------

    async def taken_over(self, table: Table) -> None:
        """The topics are this process's, and Faust holds the table to be recovered: claim it, and go on from there."""
        self._given_at = None
        async with self._folding:
            if self._tenure is None:  # else Faust says it once more
                await self._take_over(table)

    async def _take_over(self, table: Table) -> None:
        rebalances, kafka = table.rebalances, self._settings.client()
        try:
            ends = {stream: (await self._bounds(stream)).end for stream in READ}
            await table.read(kafka)
            table.fence.check(self._settings.changelog, self._log.identity)
            table.fence.check_claimed(self._settings.changelog)
            number = max(table.fence.tenure + 1, self._now_us())
            claim = await table.claim(self._log.identity, number)
            if claim != table.fence.last + 1:
                await table.read(kafka, claim)  # somebody has written in between; what comes behind it is void
                if table.fence.tenure >= number:
                    raise TransientError(f"another process has claimed the changelog just before {claim}")
            if table.rebalances != rebalances:
                return  # to another, or to be taken over anew
            tenure = Tenure(claim, number, changelog.restore(dict(table.items())), self._partitions, ends)
            for key in table.fence.shadowed:
                tenure.shadow(key)
        except Exception as error:  # Faust would swallow it
            _logger.error("requests_not_taken_over", error=str(error), exc_info=error)
            self._give_up(error)
        else:
            self._table, self._tenure = table, tenure
            self._backoff.succeeded()
            self._recovery_s = RECOVERY_S
            _logger.info("requests_taken_over", claim=claim, positions=tenure.positions)

    def lost(self) -> None:
        """The topics may be another's from now on."""
        if self._tenure is not None:
            _logger.info("requests_let_go", claim=self._tenure.claim)
        self._table = self._tenure = self._given_at = None

    def given(self) -> None:
        """The topics are this process's, once Faust has recovered."""
        self._given_at = time.monotonic()

    def misled(self, error: Exception) -> None:
        """The application has to be started anew."""
        self._give_up(error)

    async def fold(self, stream: Stream, run: Sequence[Record]) -> bool:
        """Fold a run; whether all of it is stored, and it may be acknowledged."""
        async with self._folding:
            tenure, table = self._tenure, self._table
            if tenure is None or table is None:
                return False
            try:
                while run := [record for record in run if record.position >= tenure.positions[stream]]:
                    start = tenure.positions[stream]
                    if run[0].position == start:
                        part = _without_gaps(run)
                    else:
                        part = await self._missing(stream, start, run[0].position)
                    if not await self._fold(tenure, table, stream, part):
                        return False
                return True
            except Exception as error:  # an agent that fails counts its events as done
                _logger.error("requests_fold_failed", stream=stream, position=tenure.positions[stream], exc_info=error)
                self._give_up(error)
                return False

    def folded(self, stream: Stream) -> int | None:
        """The next position to fold, while this process is the one that folds."""
        tenure = self._tenure
        return None if tenure is None else tenure.positions[stream]

    async def _missing(self, stream: Stream, start: int, end: int) -> list[Record]:
        """The records that Faust has not given: where it was told to begin too late, and where there are none to read.

        A transaction of another producer leaves such places, and the log has empty records there.
        """
        run = await self._read(stream, start, min(end - start, limits.RUN_RECORDS_MAX))
        if not run:
            raise TransientError(f"{stream} ends at {start} to one reader and not before {end} to another")
        return run

    async def _read(self, stream: Stream, start: int, records_max: int) -> list[Record]:
        bounds = {"records_max": records_max, "bytes_max": limits.RUN_BYTES_MAX}
        try:
            return await asyncio.to_thread(self._log.read, stream, 0, start, **bounds)
        except TrimmedError as error:
            raise CorruptionError(
                f"the coordinator has folded {stream} up to {start} and the log now begins at {error.first}; what lies "
                f"between was trimmed, or the changelog was lost: {BEGIN_ANEW}"
            ) from error

    async def _bounds(self, stream: Stream) -> Bounds:
        return await asyncio.to_thread(self._log.bounds, stream, 0)

    async def _fold(self, tenure: Tenure, table: Table, stream: Stream, run: Sequence[Record]) -> bool:
        """Fold as much of the run as goes in one step; false when the tenure is over, and it is another's to fold."""
        step = tenure.step(stream, run)
        assert step is not None, "there is something to fold"
        if not await self._append(step.entries, tenure):
            return False
        *others, last = step.changes
        for id in step.forgotten:
            table.pop(changelog.request_key(id), None)
        if not await self._store(table, others, tenure) or not await self._store(table, [last], tenure):
            return False
        tenure.take(stream, step, self._now_us())
        return True

    async def _append(self, entries: Sequence[Entry], tenure: Tenure) -> bool:
        """Append, again and again while it fails; false when the tenure is over and they are another's to append."""
        backoff = Backoff()
        while entries and self._tenure is tenure and not self._over:
            appended = bounded(entries)
            try:
                await asyncio.wrap_future(self._log.submit(appended))
                entries = entries[len(appended) :]
                backoff.succeeded()
            except LogReplacedError as error:
                raise CorruptionError(str(error)) from error
            except LogError as error:
                _logger.warning("requests_append_failed", error=str(error), entries=len(appended))
                backoff.failed()
                await asyncio.sleep(backoff.left_s)
        return self._tenure is tenure and not self._over

    async def _store(self, table: Table, changes: Sequence[Change], tenure: Tenure) -> bool:
        """Write rows and wait until they are there; false when the tenure is over: they may have come too late."""
        for change in changes:
            table[changelog.key_of(change.what)] = changelog.encode(change)
        await table.stored()
        return self._tenure is tenure

    # -- what the application has lost -----------------------------------------------------------------------

    async def _look_for_missed(self) -> None:
        """Read from the log by itself, when nothing was folded for a while and there is something to fold.

        When a recovery ends Faust resumes the topics first and empties its queues afterwards; what it has fetched
        between the two is gone, until something comes behind it. And of a transaction's marker at the end it tells
        nothing at all.
        """
        tenure = self._tenure
        if tenure is None or time.monotonic() < self._missed_look_at:
            return
        self._missed_look_at = time.monotonic() + MISSED_S
        before, self._positions_seen = self._positions_seen, tenure.positions
        if before is not tenure.positions or self._folding.locked():
            return
        for stream in READ:
            with contextlib.suppress(LogError):  # whoever appends learns of it, too
                while self._tenure is tenure:
                    run = await self._read(stream, tenure.positions[stream], limits.RUN_RECORDS_MAX)
                    if not run or not await self.fold(stream, run):
                        break

    # -- the clock -------------------------------------------------------------------------------------------

    async def _look_at_clock(self) -> None:
        """Append a lapse for each request that is due, or to be forgotten, and for rows to be written again."""
        tenure = self._tenure
        if tenure is None or not tenure.caught_up:
            return
        now = self._now_us()
        late = tenure.timers.take_late(now)
        asked = list(late)
        if now >= self._forget_look_at:
            self._forget_look_at = now + FORGET_EVERY_US
            asked += tenure.timers.forgettable(now)
        if tenure.take_repair():
            asked.append("")
        if not asked:
            return
        entries = [Entry(Stream.REQUESTS, 0, messages.encode(Lapse(request=id))) for id in asked]
        try:
            await asyncio.wrap_future(self._log.submit(entries))
        except LogError as error:
            _logger.warning("requests_append_failed", error=str(error), entries=len(entries))
            tenure.timers.read_back(frozenset(late), now)
            tenure.repair_not_asked()


def _without_gaps(run: Sequence[Record]) -> Sequence[Record]:
    """As much of its beginning as stands one behind the other."""
    start = run[0].position
    return [record for number, record in takewhile(lambda one: one[1].position == start + one[0], enumerate(run))]
