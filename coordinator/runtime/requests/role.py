"""The coordinator role: drives the request machine and the deployments' registry over the embedded log, in one thread.

The loop reads a run of records from `requests` or `progress`, one partition each, folds it (`run`), commits states,
effects and position in one transaction (`file`), and only then shows the new states (`known`) and publishes the
effects (`outbox`). What the log has not acknowledged is published again, also after a restart; receivers know
repeats by request and revision.

The clock is looked at for two things only (`timers`): to append a `Lapse` when a request is due, and to forget
requests that nobody can ask for any more. Neither decides anything; that is up to the machine when it reads the record.

`log.wait` waits for one stream, so there is a small thread for each of the two, which does nothing but wake the
loop.
"""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from coordinator.logs.port import Entry, Log, LogError, LogReplacedError, Record, Stream, TrimmedError
from coordinator.model import limits, messages
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.model.messages import Lapse
from coordinator.requests.deployments import Registry
from coordinator.runtime.clock import Clock
from coordinator.runtime.requests.file import Moved, Outgoing, RequestsFile
from coordinator.runtime.requests.known import READ, KnownRequests
from coordinator.runtime.requests.outbox import Backoff, Outbox
from coordinator.runtime.requests.run import fold
from coordinator.runtime.requests.timers import Timers

WAIT_S: Final = 0.25
"""How long anything here sleeps at most before it looks at the clock and whether it is to stop."""
FORGET_EVERY_US: Final = 60 * limits.SECOND_US

_logger: Final = structlog.get_logger()


class RequestsRole(KnownRequests):
    """The coordinator in this process, from its construction until `close`.

    Every method may be called from any thread, but `close` not by a subscriber.
    """

    def __init__(self, log: Log, path: Path, now_us: Clock) -> None:
        """Resume where the file at `path` stands, or begin with the log, and start.

        Raises CorruptionError when the file and the log do not belong together, or the log does not reach
        from where the file stands; StoreInUseError when another coordinator has the file.
        """
        super().__init__()
        self._log = log
        self._now_us = now_us
        self._partitions = log.partitions(Stream.COMMANDS)
        self._file = RequestsFile(path, log.identity, self._partitions)
        self._timers = Timers()
        self._forget_look_at = 0
        self._wake = threading.Event()
        self._backoff = Backoff()
        try:
            self._next = {stream: self._file.position(stream) for stream in READ}
            self._replay = {stream: self._end(stream) for stream in READ}
            """Where the streams ended at the start; no timer expires before all up to there is folded."""
            for request in self._file.requests():
                self._know(request)
                self._timers.know(request)
            self._registry = Registry(self._file.deployments())
            self._outbox = Outbox(log, self._file.outbox(), self._wake.set)
        except BaseException:
            self._file.close()
            raise
        self._trimmed = 0
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()
        for stream in READ:
            threading.Thread(target=self._watch, args=(stream,), name=f"requests-{stream}", daemon=True).start()

    def wake(self) -> None:
        """Look at the clock now: for one that is not the wall's."""
        self._wake.set()

    def close(self) -> None:
        """Stop after the run at hand. What is not published by then is at the next start.

        The watching threads hold nothing and are not waited for: they end within `WAIT_S`.
        """
        self._stop(None)
        self._thread.join()
        self._file.close()

    # -- the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._over:
                self._wake.clear()
                if not self._turn():
                    self._wake.wait(self._pause_s())
        except Exception as error:  # whatever it is, whoever waits must learn that it has stopped
            _logger.error("requests_stopped", error=str(error), positions=self._next, exc_info=error)
            self._stop(error)

    def _turn(self) -> bool:
        """Do what there is to do now; whether there may be more. What fails and may pass is done again later."""
        pushed = self._outbox.push()
        if self._backoff.left_s:
            return pushed
        try:
            read = self._read()
            self._look_at_clock()
            if not read:
                self._tidy()
        except TrimmedError as error:
            raise _trimmed(error.stream, error.start, error.first) from error
        except LogReplacedError as error:
            raise CorruptionError(str(error)) from error
        except (LogError, TransientError) as error:
            _logger.warning("requests_turn_failed", error=str(error))
            self._backoff.failed()
            return pushed
        self._backoff.succeeded()
        return pushed or read

    def _read(self) -> bool:
        """Fold one run of records, if there is one and there is room for what it may want published."""
        if len(self._outbox) > limits.OUTBOX_UNPUBLISHED_MAX:
            return False
        stream, run = self._run_of_records()
        if run:
            self._fold(stream, run)
        return bool(run)

    def _run_of_records(self) -> tuple[Stream, Sequence[Record]]:
        bounds = {"records_max": limits.RUN_RECORDS_MAX, "bytes_max": limits.RUN_BYTES_MAX}
        for stream in READ:
            run = self._log.read(stream, 0, self._next[stream], **bounds)
            if run:
                break
        return stream, run

    def _fold(self, stream: Stream, run: Sequence[Record]) -> None:
        """One run: step, commit, show — in this order; then what it wants published may go out."""
        if run[0].position != self._next[stream]:
            raise CorruptionError(f"{stream} was read from {self._next[stream]} and gave record {run[0].position}")
        folded = fold(stream, run, self._requests, self._registry, self._partitions)
        start, end = run[0].position, folded.end
        published = self._outbox.published
        outgoing = self._file.commit(
            moved=Moved(stream, start, end),
            changed=folded.changed,
            registered=folded.registry.deployments[len(self._registry.deployments) :],
            entries=folded.entries,
            published=published,
        )
        self._trimmed = published
        for request in folded.changed.values():
            self._timers.know(request)
        self._timers.read_back(folded.lapsed, self._now_us())
        self._outbox.put(outgoing)
        self._show({stream: end}, changed=folded.changed.values(), registry=folded.registry)

    # -- the clock -------------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """Append a lapse for each request that is due and has none outstanding."""
        if any(self._next[stream] < end for stream, end in self._replay.items()):
            return
        late = self._timers.take_late(self._now_us())
        lapses = (Entry(Stream.REQUESTS, 0, messages.encode(Lapse(request=id))) for id in late)
        self._outbox.put(Outgoing(0, lapse) for lapse in lapses)
        if late:
            self._wake.set()

    def _tidy(self) -> None:
        """With nothing else to do: drop published entries and forgotten requests from the file."""
        now = self._now_us()
        forgotten: list[str] = []
        if now >= self._forget_look_at:
            self._forget_look_at = now + FORGET_EVERY_US
            forgotten = self._timers.forgettable(now)
        published = self._outbox.published
        if not forgotten and self._trimmed == published:
            return
        self._file.commit(forgotten=forgotten, published=published)
        self._trimmed = published
        self._timers.forget(forgotten)
        self._show({}, forgotten=forgotten)

    def _pause_s(self) -> float:
        """How long there is nothing to do unless something arrives."""
        pauses = [left_s for left_s in (self._outbox.backoff.left_s, self._backoff.left_s) if left_s]
        return max(0.0, min(WAIT_S, self._timers.pause_us(self._now_us()) / limits.SECOND_US, *pauses))

    # -- waking and stopping ---------------------------------------------------------------------------------

    def _watch(self, stream: Stream) -> None:
        """Wake the loop when there is a record that it has not read; then wait until it has."""
        while not self._over:
            position = self._next[stream]
            try:
                if not self._log.wait(stream, 0, position, WAIT_S):
                    continue
            except LogError:
                pass  # the loop meets the same when it reads, and deals with it
            self._wake.set()
            with self._moved:
                self._moved.wait_for(partial(self._behind, stream, position), WAIT_S)

    def _behind(self, stream: Stream, position: int) -> bool:
        return self._next[stream] > position or self._over

    def _stop(self, failure: Exception | None) -> None:
        super()._stop(failure)
        self._wake.set()

    def _end(self, stream: Stream) -> int:
        """Where the stream ends; at the start it must reach from where the file stands to there."""
        count, first = self._log.partitions(stream), self._log.bounds(stream, 0).first
        if count != 1:
            raise CorruptionError(f"{stream} has {count} partitions on this log; the coordinator reads one")
        end, position = self._log.bounds(stream, 0).end, self._next[stream]
        if first > position:
            raise _trimmed(stream, position, first)
        if end < position:
            raise CorruptionError(
                f"the coordinator has read {stream} up to {position} and the log ends at {end}; it has lost records, "
                "restore the log that belongs to this data directory"
            )
        return end


def _trimmed(stream: Stream, position: int, first: int) -> CorruptionError:
    return CorruptionError(
        f"the coordinator has read {stream} up to {position} and the log now begins at {first}; what lies between "
        "was trimmed, restore the coordinator's file that belongs to this log"
    )
