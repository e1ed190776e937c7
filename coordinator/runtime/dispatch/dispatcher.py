"""Drives the core in the server's event loop: deliveries in, streams out, reports through, leases looked at.

All state is the core's and goes with the process. At the start every partition is told to take back what was
delivered before, after the end of its deliveries was noted, so nothing that comes after is missed.

Nothing here waits for anything but in its own request: what the core wants appended goes through an outbox that
keeps its order, and streams are woken when they have something to send.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from coordinator.logs.port import Entry, Log, Stream
from coordinator.model import framing, limits, messages
from coordinator.model.errors import CallerError, NotFoundError
from coordinator.partition.outputs import Answer
from coordinator.runtime.clock import monotonic_us
from coordinator.runtime.dispatch import reports
from coordinator.runtime.dispatch.core import Dispatch
from coordinator.runtime.dispatch.feed import OnRun
from coordinator.runtime.dispatch.sessions import Session
from coordinator.runtime.requests.file import Outgoing
from coordinator.runtime.requests.outbox import Outbox
from coordinator.runtime.requests.port import Requests

LEASES_EVERY_S: Final = 0.5
CHUNK_BYTES: Final = 256 * 1024
"""About how much of a stream is sent at once."""

Send = Callable[[Sequence[Entry]], Awaitable[Sequence[Answer]]]
"""Appends commands and waits for their answers."""


class Deliveries(Protocol):
    """What reads the deliveries of all partitions, from given positions on, from `start` until `close`."""

    failure: str | None
    """Why nothing is read any more, once that is so."""

    def start(self) -> None:
        """Begin to read."""

    def close(self) -> None:
        """Stop."""


Read = Callable[[Mapping[int, int], OnRun], Deliveries]
"""Makes a reader of deliveries, of the next position of each partition and of who takes them."""


class Reported(NamedTuple):
    """What became of a report."""

    code: int
    status: str | None = None
    detail: str | None = None


class DispatchView(NamedTuple):
    """How the dispatcher stands."""

    sessions: int
    held: int
    """Attempts that participants have."""
    waiting: int
    """Attempts for which no participant has room."""


class Dispatcher:
    """Participants' sessions. Everything but the constructor is called in the event loop."""

    def __init__(self, log: Log, requests: Requests, send: Send, read: Read, *, tenure: int = 0) -> None:
        """`tenure` is higher than that of whoever carried deliveries before; the same where that one is surely gone."""
        self.tenure: Final = tenure
        self._log = log
        self._requests = requests
        self._send = send
        self._read = read
        self._partitions: Final = range(log.partitions(Stream.COMMANDS))
        self._core = Dispatch(requests.deployments(), tenure)
        self._feed: Deliveries | None = None
        self._outbox = Outbox(log, (), self._appended)
        self._wakers: dict[Session, asyncio.Event] = {}
        """Of those sessions that have a stream."""
        self._over = False

    # -- its life --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over from whoever carried deliveries before, and begin. Raises LogError when that cannot be done."""
        self._loop = asyncio.get_running_loop()
        bounds = [asyncio.to_thread(self._log.bounds, Stream.DELIVERIES, number) for number in self._partitions]
        ends = {partition: bounds.end for partition, bounds in enumerate(await asyncio.gather(*bounds))}
        self._append(None, messages.Serve(lanes=(), reclaim=True, tenure=self.tenure))
        self._push()
        self._feed = self._read(ends, self._from_thread(self._delivered))
        self._feed.start()
        self._unsubscribe = self._requests.subscribe_deployments(self._from_thread(self._registered))
        self._registered()  # whatever came before that
        self._leases = asyncio.create_task(self._look_at_leases())

    def end_streams(self) -> None:
        """The server is ending: let all streams end, and open no more."""
        self._over = True
        for waker in self._wakers.values():
            waker.set()

    def close(self) -> None:
        """Stop. What participants have is taken back by the next one that starts."""
        self.end_streams()
        if self._feed is not None:
            self._unsubscribe()
            self._leases.cancel()
            self._feed.close()

    @property
    def failure(self) -> str | None:
        """Why nothing is delivered any more, if that is so."""
        return None if self._feed is None else self._feed.failure

    def view(self) -> DispatchView:
        """How it stands."""
        return DispatchView(self._core.sessions, self._core.held, self._core.waiting)

    # -- sessions --------------------------------------------------------------------------------------------

    def open(self, deployment: str, capacity: int) -> str:
        """Begin a session that takes so many attempts at once; its id.

        Raises NotFoundError when nobody has registered the deployment, BusyError when there are too many.
        """
        if self._requests.deployments().get(deployment) is None:
            raise NotFoundError(f"there is no deployment {deployment}; register it first")
        if not 1 <= capacity <= limits.SESSION_CAPACITY_MAX:
            raise CallerError(f"capacity must be 1 to {limits.SESSION_CAPACITY_MAX}", field="capacity")
        session = self._core.open(f"session_{secrets.token_hex(12)}", deployment, capacity, monotonic_us())
        self._settle()
        return session.id

    def leave(self, id: str) -> None:
        """End a session; what it has is given back. Raises NotFoundError when it is over."""
        self._core.leave(self._session(id))
        self._settle()

    def stream(self, id: str) -> AsyncGenerator[bytes, None]:
        """A session's deliveries, as frames. Raises NotFoundError when the session is over."""
        return self._stream(self._session(id))

    async def _stream(self, session: Session) -> AsyncGenerator[bytes, None]:
        """Until the session is over, has another stream, or the server ends.

        It begins when it is first asked for a chunk, so that one which nobody ever reads is none.
        """
        waker = self._wakers.setdefault(session, asyncio.Event())
        number = self._core.stream_opened(session, monotonic_us())
        self._settle()
        try:
            yield framing.EMPTY
            while session.stream == number and session.streaming and not self._over:
                waker.clear()
                chunk = session.take(CHUNK_BYTES)
                if chunk:
                    yield chunk
                    continue
                try:
                    async with asyncio.timeout(limits.KEEP_ALIVE_US / 1e6):
                        await waker.wait()
                except TimeoutError:
                    yield framing.EMPTY
        finally:
            if session.stream == number:
                self._wakers.pop(session, None)
            self._core.stream_closed(session, number, monotonic_us())
            self._settle()

    async def report(self, id: str, body: bytes) -> list[Reported]:
        """Have a session's reports applied, in their order; what became of each. Renews its lease.

        Raises NotFoundError when the session is over, CallerError when the body is not made of frames, and
        UnavailableError when not all could be answered: some may have been applied then.
        """
        session = self._session(id)
        session.heard(monotonic_us())
        values = framing.unframed(body)
        if len(values) > limits.REPORTS_MAX:
            raise CallerError(f"{len(values)} reports in one body; at most {limits.REPORTS_MAX} go")
        results: list[Reported] = []
        passed: list[tuple[int, messages.Report]] = []
        entries: list[Entry] = []
        registry = self._requests.deployments()
        for place, value in enumerate(values):
            try:
                report, record = reports.read(value, session.deployment, registry)
            except CallerError as error:
                results.append(Reported(400, None, str(error)))
                continue
            attempt = self._core.has(session, report.id, report.attempt)
            if attempt is None:
                results.append(Reported(409, None, f"attempt {report.attempt} of {report.id} is over; drop it"))
                continue
            results.append(Reported(200))
            passed.append((place, report))
            entries.append(Entry(Stream.COMMANDS, attempt.partition, record))
        if entries:
            answers = await self._send(entries)
            for (place, report), answer in zip(passed, answers, strict=True):
                results[place] = Reported(answer.code, answer.status, answer.detail)
                if answer.code in (404, 409) or (answer.code == 200 and isinstance(report, reports.LETS_GO)):
                    self._core.ended(report.id, report.attempt)
            self._settle()
        return results

    def _session(self, id: str) -> Session:
        session = self._core.session(id)
        if session is None:
            raise NotFoundError(f"session {id} is over; open another")
        return session

    # -- what comes in ---------------------------------------------------------------------------------------

    def _delivered(self, partition: int, values: Sequence[bytes]) -> None:
        for value in values:
            try:
                self._core.delivered(partition, value)
            except msgspec.DecodeError as error:
                # Partitions wrote it, so this is no delivery of theirs: whoever did can repeat it as it should be.
                structlog.get_logger().error("delivery_unreadable", partition=partition, error=str(error))
        self._settle()

    def _registered(self) -> None:
        self._core.registered(self._requests.deployments())
        self._settle()

    async def _look_at_leases(self) -> None:
        while True:
            began_us = monotonic_us()
            await asyncio.sleep(LEASES_EVERY_S)
            if monotonic_us() - began_us > limits.LEASE_US // 2:
                # Stopped or starved: what participants have sent meanwhile is still to be read.
                self._core.renew_all(monotonic_us())
            for session in self._core.look_at_leases(monotonic_us()):
                structlog.get_logger().warning(
                    "participant vanished", session=session.id, deployment=session.deployment
                )
            self._settle()

    # -- what goes out ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After each event: hand on what the core wants done."""
        commands = self._core.take_commands()
        for partition, command in commands:
            self._append(partition, command)
        if commands:
            self._push()
        for session in self._core.take_woken():
            waker = self._wakers.get(session)
            if waker is not None:
                waker.set()

    def _append(self, partition: int | None, command: messages.Command) -> None:
        value = messages.encode(command)
        to = self._partitions if partition is None else (partition,)
        self._outbox.put(Outgoing(0, Entry(Stream.COMMANDS, number, value)) for number in to)

    def _push(self) -> None:
        while not self._over and self._outbox.push():
            pass
        if len(self._outbox) and self._outbox.backoff.left_s:
            self._loop.call_later(self._outbox.backoff.left_s, self._push)

    def _appended(self) -> None:
        """On any thread: an append has come back."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._push)

    def _from_thread(self, function: Callable[..., None]) -> Callable[..., None]:
        """The function, to be called on any thread and run in the loop."""

        def call(*arguments: object) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(function, *arguments)

        return call
