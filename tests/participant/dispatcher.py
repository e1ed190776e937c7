"""A dispatcher with its partition, small enough for tests: what participants connect to, in this process.

It keeps invocations as `script.Partition` does, starts what they call, delivers to whoever has a session, and answers
reports. Time is the clock's, and a test may look at everything.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from coordinator.model import framing, ids, messages
from coordinator.model.errors import ConflictError, NotFoundError, TransientError
from coordinator.model.journal import StepKind
from coordinator.participant.deadlines import now_us
from coordinator.participant.services import AnyService
from coordinator.participant.transport import Answer
from tests.participant.script import Partition

_decode = msgspec.msgpack.Decoder(
    messages.Started | messages.Steps | messages.Suspended | messages.BackingOff | messages.Paused | messages.Completed
).decode


class Connected:
    """A session."""

    def __init__(self, id: str, deployment: str, capacity: int) -> None:
        self.id = id
        self.deployment = deployment
        self.capacity = capacity
        self.outgoing: asyncio.Queue[messages.AnyDelivery | None] = asyncio.Queue()
        self.held: set[str] = set()


class Dispatcher:
    """See above. It is a `Transport`."""

    lease_s = 10.0

    def __init__(self, *services: AnyService) -> None:
        self.services = {service.name: service for service in services}
        self.deployments: dict[str, tuple[messages.ServiceSpec, ...]] = {}
        self.sessions: dict[str, Connected] = {}
        self.invocations: dict[str, Partition] = {}
        self.reports: list[list[messages.Report]] = []
        """As they came, by request."""
        self.heartbeats = 0
        self.left: list[str] = []
        self.refusals: dict[type[messages.Report], Answer] = {}
        """What to answer to reports of a kind, instead of applying them."""
        self._parents: dict[str, tuple[str, int]] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)
        self._timers: list[asyncio.TimerHandle] = []
        self.changed = asyncio.Event()

    # -- for tests -------------------------------------------------------------------------------------------

    def send(self, target: str, input: bytes | None = None, *, id: str | None = None) -> str:
        """Start an invocation."""
        service, *key, handler = target.split("/")
        id = id or ids.derived_id("test", next(self._numbers), None)
        partition = Partition(self.services[service], handler, input, id=id, key="/".join(key) or None)
        self.invocations[id] = partition
        self._ended[id] = asyncio.Event()
        self._deliver(partition)
        return id

    async def ended(self, id: str) -> Partition:
        """The invocation, once it is completed or paused."""
        await self._ended[id].wait()
        return self.invocations[id]

    def cancel(self, id: str) -> None:
        """Ask an invocation to cancel."""
        partition = self.invocations[id]
        partition.cancelled = True
        if partition.suspended is not None:
            self._deliver(partition)
        else:
            self._tell(partition, messages.Signal(id=id, attempt=partition.attempt))

    def drop(self, id: str) -> None:
        """Take an attempt back."""
        partition = self.invocations[id]
        self._tell(partition, messages.Drop(id=id, attempt=partition.attempt))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; it is looked at after each request."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def break_streams(self) -> None:
        """End the streams of all sessions, as a network might."""
        for session in self.sessions.values():
            session.outgoing.put_nowait(None)

    def end_session(self, id: str) -> None:
        """As its lease does."""
        self._close(self.sessions.pop(id))

    # -- as a transport --------------------------------------------------------------------------------------

    async def register(self, deployment: str, services: Sequence[messages.ServiceSpec]) -> None:
        if self.deployments.setdefault(deployment, tuple(services)) != tuple(services):
            raise ConflictError(f"{deployment} has other services")

    async def open(self, deployment: str, capacity: int) -> tuple[str, float]:
        session = Connected(f"session_{next(self._numbers)}", deployment, capacity)
        self.sessions[session.id] = session
        for partition in self.invocations.values():
            if partition.ending is None and not self._holder(partition):
                self._deliver(partition)
        self._change()
        return session.id, self.lease_s

    async def deliveries(self, session: str) -> AsyncGenerator[bytes, None]:
        connected = self._session(session)
        yield framing.EMPTY
        while (message := await connected.outgoing.get()) is not None:
            yield framing.frame(messages.encode(message))
        raise TransientError("the stream broke off")

    async def report(self, session: str, body: bytes) -> Sequence[Answer]:
        connected = self._session(session)
        reports = [_decode(value) for value in framing.unframed(body)]
        if not reports:
            self.heartbeats += 1
            self._change()
            return []
        self.reports.append(reports)
        answers = [self._apply(connected, report) for report in reports]
        self._change()
        return answers

    async def leave(self, session: str) -> None:
        self.left.append(session)
        self._close(self.sessions.pop(session))
        self._change()

    # -- the rest --------------------------------------------------------------------------------------------

    def _apply(self, session: Connected, report: messages.Report) -> Answer:
        partition = self.invocations[report.id]
        if report.id not in session.held or report.attempt != partition.attempt:
            return 409, None, "it is over"
        if type(report) in self.refusals:
            return self.refusals[type(report)]
        partition.now = now_us()
        before = len(partition.journal)
        partition.apply(report)
        for entry in partition.journal[before:]:
            if entry.kind in (StepKind.CALL, StepKind.SEND):
                call = partition.steps[entry.step].call
                assert call is not None
                assert entry.child is not None
                if entry.kind == StepKind.CALL:
                    self._parents[entry.child] = (report.id, entry.step)
                self.send(entry.name, call.input, id=entry.child)
        if partition.ending is not None:
            session.held.discard(report.id)
            self._let_go(partition)
        return 200, None, None

    def _let_go(self, partition: Partition) -> None:
        if partition.suspended is not None:
            if partition.wakes():
                self._deliver(partition)
                return
            due = [partition.journal[step].due_at for step in partition.suspended.awaiting]
            self._at(min((at for at in due if at is not None), default=None), partition)
        elif isinstance(partition.ending, messages.BackingOff):
            self._at(partition.ending.retry_at, partition)
        else:
            self._ended[partition.id].set()
            if isinstance(partition.ending, messages.Completed) and partition.id in self._parents:
                self._tell_parent(partition.ending, *self._parents[partition.id])

    def _tell_parent(self, ending: messages.Completed, id: str, step: int) -> None:
        parent = self.invocations[id]
        entry = parent.end_call(step, ending.output, outcome=ending.outcome, failure=ending.failure)
        if parent.suspended is not None:
            if parent.wakes():
                self._deliver(parent)
        else:
            self._tell(parent, messages.Notify(id=id, attempt=parent.attempt, entry=entry))

    def _at(self, at: int | None, partition: Partition) -> None:
        if at is None:
            return
        ending = partition.ending

        def due() -> None:
            partition.now = max(now_us(), at)
            if partition.ending is ending:
                self._deliver(partition)

        delay_s = max(0, at - now_us()) / 1e6
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, due))

    def _deliver(self, partition: Partition) -> None:
        """Start the next attempt, if anybody is there."""
        partition.ending = partition.suspended = None
        session = next((s for s in self.sessions.values() if len(s.held) < s.capacity), None)
        if session is not None:
            session.held.add(partition.id)
            session.outgoing.put_nowait(partition.start())

    def _tell(self, partition: Partition, message: messages.AnyDelivery) -> None:
        session = self._holder(partition)
        if session is not None:
            session.outgoing.put_nowait(message)

    def _holder(self, partition: Partition) -> Connected | None:
        return next((session for session in self.sessions.values() if partition.id in session.held), None)

    def _session(self, id: str) -> Connected:
        if id not in self.sessions:
            raise NotFoundError(f"session {id} is over")
        return self.sessions[id]

    def _close(self, session: Connected) -> None:
        session.outgoing.put_nowait(None)
        for id in session.held:
            self._deliver(self.invocations[id])

    def _change(self) -> None:
        self.changed.set()
