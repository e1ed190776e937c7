"""The coordinator role: drives the request machine and the deployments' registry over the embedded log, in one thread.

The loop reads a run of records from `requests` or `progress`, one partition each, folds it, commits states, effects
and position in one transaction (`requests_file`), and only then shows the new states and publishes the effects
(`requests_outbox`). What the log has not acknowledged is published again, also after a restart; receivers know
repeats by request and revision.

The clock is looked at for two things only: to append a `Lapse` when a request is due, and to forget requests that
nobody can ask for any more. Neither decides anything; that is up to the machine when it reads the record.

`log.wait` waits for one stream, so there is a small thread for each of the two, which does nothing but wake the
loop.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from coordinator.logs.port import Entry, Log, LogError, Record, Stream, TrimmedError
from coordinator.model import limits, messages
from coordinator.model.errors import CallerError, CorruptionError, TransientError
from coordinator.model.messages import Lapse, Register
from coordinator.requests import lifecycle, machine
from coordinator.requests.deployments import Registry
from coordinator.requests.state import Request
from coordinator.runtime import requests_records as records
from coordinator.runtime.clock import Clock
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.requests_file import Moved, Outgoing, RequestsFile
from coordinator.runtime.requests_outbox import Backoff, Outbox

READ: Final = (Stream.REQUESTS, Stream.PROGRESS)
"""In this order: the cause of progress stands on `requests`, so it is normally known before its effect."""
WAIT_S: Final = 0.25
"""How long anything here sleeps at most before it looks at the clock and whether it is to stop."""
LAPSE_AGAIN_US: Final = limits.SECOND_US // 4
"""Time between two lapses of a request, should the log's clock be behind so that the first came too early."""
FORGET_EVERY_US: Final = 60 * limits.SECOND_US

_logger: Final = structlog.get_logger()


class RequestsRole:
    """The coordinator in this process, from its construction until `close`.

    Every method may be called from any thread, but `close` not by a subscriber.
    """

    def __init__(self, log: Log, path: Path, now_us: Clock) -> None:
        """Resume where the file at `path` stands, or begin with the log, and start.

        Raises CorruptionError when the file and the log do not belong together, or the log does not reach
        from where the file stands; StoreInUseError when another coordinator has the file.
        """
        self._log = log
        self._now_us = now_us
        self._partitions = log.partitions(Stream.COMMANDS)
        self._file = RequestsFile(path, log.identity, self._partitions)
        self._requests: dict[str, Request] = {}
        self._registry = Registry()
        self._registry_subscribers: tuple[Callable[[], None], ...] = ()
        self._active: set[str] = set()
        self._due: dict[str, int] = {}
        self._forget: dict[str, int] = {}
        self._forget_look_at = 0
        self._lapsing: set[str] = set()
        """Requests with a lapse that was given to the log and not read back."""
        self._lapsed: dict[str, int] = {}
        """When that was read back, as long as the request is still due."""
        self._subscribers: tuple[Callable[[str], None], ...] = ()
        self._failure: Exception | None = None
        self._over = False
        self._wake = threading.Event()
        self._backoff = Backoff()
        self._moved = threading.Condition()
        """Guards what other threads look at; notified after each commit."""
        try:
            self._next = {stream: self._file.position(stream) for stream in READ}
            self._replay = {stream: self._end(stream) for stream in READ}
            """Where the streams ended at the start; no timer expires before all up to there is folded."""
            for request in self._file.requests():
                self._install(request)
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

    # -- what others ask -------------------------------------------------------------------------------------

    def get(self, request_id: str) -> Request | None:
        """The request as of the last commit; None when it was never submitted or is forgotten."""
        request = self._requests.get(request_id)
        return None if request is None or request.submission is None else request

    def list(self) -> Sequence[Request]:
        """All requests that are remembered, the last submitted first."""
        with self._moved:
            known = [request for request in self._requests.values() if request.submission is not None]
        return sorted(known, key=lambda request: (-request.submitted_at, request.id))

    def wait_applied(self, position: int, timeout_s: float) -> bool:
        """Wait until the record at `position` of `requests` is folded and committed; false when time is up.

        Raises UnavailableError when the coordinator has stopped.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._next[Stream.REQUESTS] > position or self._over, timeout_s)
            if self._next[Stream.REQUESTS] > position:
                return True
            if self._over:
                raise UnavailableError(f"the coordinator has stopped: {self._failure or 'it was closed'}")
            return False

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback` with the id of each request that a commit has changed; what ends that is returned.

        It is called from the role's thread, which it must not hold up.
        """
        with self._moved:
            self._subscribers = (*self._subscribers, callback)
        return lambda: self._unsubscribe(callback)

    def deployments(self) -> Registry:
        """The registry of deployments as of the last commit."""
        return self._registry

    def subscribe_deployments(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each commit that has changed the registry, as `subscribe` does."""
        with self._moved:
            self._registry_subscribers = (*self._registry_subscribers, callback)

    @property
    def active_count(self) -> int:
        """Requests that not every partition is done with."""
        return len(self._active)

    @property
    def positions(self) -> dict[Stream, int]:
        """The next position to read of `requests` and of `progress`."""
        with self._moved:
            return dict(self._next)

    @property
    def failure(self) -> Exception | None:
        """Why it has stopped by itself. Nothing more is folded until that is mended and it is started again."""
        return self._failure

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
        """One run: step, commit, show, publish, tell — in this order."""
        if run[0].position != self._next[stream]:
            raise CorruptionError(f"{stream} was read from {self._next[stream]} and gave record {run[0].position}")
        changed: dict[str, Request] = {}
        entries: list[Entry] = []
        lapsed: set[str] = set()
        registry = self._registry
        for record in run:
            try:
                event = records.event(stream, record.value)
                if isinstance(event, Register):
                    registry = registry.with_registered(event, record.appended_at)
                    continue
            except (records.UnreadableError, CallerError) as error:
                entries.append(records.dead_letter(stream, record, str(error)))
                continue
            if event is None:
                continue
            if isinstance(event, Lapse):
                lapsed.add(event.request)
            before = changed.get(event.request) or self._requests.get(event.request)
            after, effects = machine.step(before, event, record.appended_at, self._partitions)
            if after is not None and after is not before:
                changed[event.request] = after
            entries += [records.entry(effect) for effect in effects]
        start, end = run[0].position, run[-1].position + 1
        published = self._outbox.published
        registered = registry.deployments[len(self._registry.deployments) :]
        outgoing = self._file.commit(
            moved=Moved(stream, start, end),
            changed=changed,
            registered=registered,
            entries=entries,
            published=published,
        )
        self._trimmed = published
        with self._moved:
            self._next[stream] = end
            self._registry = registry
            for request in changed.values():
                self._install(request)
            self._moved.notify_all()
        self._lapsing -= lapsed
        self._lapsed.update(dict.fromkeys(lapsed & self._due.keys(), self._now_us()))
        self._outbox.put(outgoing)
        for request in changed.values():
            if request.submission is not None:
                self._tell(partial(callback, request.id) for callback in self._subscribers)
        if registered:
            self._tell(self._registry_subscribers)

    def _install(self, request: Request) -> None:
        """Keep the request in memory, with what is derived from it for the loop."""
        self._requests[request.id] = request
        _keep(self._due, request.id, machine.due_at(request))
        _keep(self._forget, request.id, lifecycle.forget_at(request))
        if request.submission is None or lifecycle.ended(request):
            self._active.discard(request.id)
        else:
            self._active.add(request.id)
        if request.id not in self._due:
            self._lapsed.pop(request.id, None)

    def _tell(self, callbacks: Iterable[Callable[[], None]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # a subscriber's fault is not the coordinator's
                _logger.error("requests_subscriber_failed", exc_info=error)

    # -- the clock -------------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """Append a lapse for each request that is due and has none outstanding."""
        if any(self._next[stream] < end for stream, end in self._replay.items()):
            return
        now = self._now_us()
        late = [id for id in self._due if id not in self._lapsing and self._lapse_at(id) <= now]
        self._lapsing.update(late)
        lapses = (Entry(Stream.REQUESTS, 0, messages.encode(Lapse(request=id))) for id in late)
        self._outbox.put(Outgoing(0, lapse) for lapse in lapses)
        if late:
            self._wake.set()

    def _lapse_at(self, request_id: str) -> int:
        lapsed = self._lapsed.get(request_id)
        return self._due[request_id] if lapsed is None else max(self._due[request_id], lapsed + LAPSE_AGAIN_US)

    def _tidy(self) -> None:
        """With nothing else to do: drop published entries and forgotten requests from the file."""
        now = self._now_us()
        forgotten: list[str] = []
        if now >= self._forget_look_at:
            self._forget_look_at = now + FORGET_EVERY_US
            forgotten = [id for id, at in self._forget.items() if at <= now]
        published = self._outbox.published
        if not forgotten and self._trimmed == published:
            return
        self._file.commit(forgotten=forgotten, published=published)
        self._trimmed = published
        with self._moved:
            for id in forgotten:
                del self._requests[id], self._forget[id]

    def _pause_s(self) -> float:
        """How long there is nothing to do unless something arrives."""
        now = self._now_us()
        due = [self._lapse_at(id) - now for id in self._due if id not in self._lapsing]
        pauses = [left_s for left_s in (self._outbox.backoff.left_s, self._backoff.left_s) if left_s]
        return max(0.0, min(WAIT_S, min(due, default=limits.DAY_US) / limits.SECOND_US, *pauses))

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
        with self._moved:
            self._failure = self._failure or failure
            self._over = True
            self._moved.notify_all()
        self._wake.set()

    def _unsubscribe(self, callback: Callable[[str], None]) -> None:
        with self._moved:
            self._subscribers = tuple(other for other in self._subscribers if other is not callback)

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


def _keep(times: dict[str, int], request_id: str, at: int | None) -> None:
    if at is None:
        times.pop(request_id, None)
    else:
        times[request_id] = at


def _trimmed(stream: Stream, position: int, first: int) -> CorruptionError:
    return CorruptionError(
        f"the coordinator has read {stream} up to {position} and the log now begins at {first}; what lies between "
        "was trimmed, restore the coordinator's file that belongs to this log"
    )
