"""Runs the attempts of one session as asyncio tasks: deliveries go in, reports come out.

Reports queue up here and are taken many at a time. An attempt is held until the report with which it lets go is
answered, so that a start which is delivered twice is not run twice.

The first report of an attempt is `Started`, and not a line of its handler runs before that is answered. A delivery
may have waited in queues for long; the partition knows whether the invocation is still to be run. So nothing that a
batch has ended is run after the batch was in force, however much of it was on its way to participants.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from coordinator.model import framing, limits, messages
from coordinator.model.statuses import OUTCOME_NAMES, Outcome
from coordinator.participant.attempt import Attempt
from coordinator.participant.deadlines import Deadlines, now_us
from coordinator.participant.services import AnyService
from coordinator.participant.transport import Answer

_APPLIED: Final = 200
_OVER: Final = (404, 409)


class _Held:
    """An attempt, and the task that runs it once it may run and all of its journal is here."""

    __slots__ = ("admitted", "attempt", "task", "whole")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.admitted = False
        """Its partition has said that it is to be run."""
        self.whole = not attempt.start.more
        """All that it needs is here."""
        self.task: asyncio.Task[None] | None = None


class Runner:
    """The attempts, and the `Host` of each of them."""

    def __init__(self, services: Iterable[AnyService], deployment: str, inactivity_us: int) -> None:
        self.inactivity_us: Final = inactivity_us
        self.something_to_report: Final = asyncio.Event()
        self._services: Final = {service.name: service for service in services}
        self._deployment: Final = deployment
        self._held: dict[str, _Held] = {}
        """By invocation: the newest attempt of each."""
        self._reports: deque[messages.Report] = deque()
        self._deadlines = Deadlines()

    # -- deliveries ------------------------------------------------------------------------------------------

    def deliver(self, message: messages.AnyDelivery) -> None:
        """Take what was delivered. What concerns no attempt that is held is of one that is over."""
        if isinstance(message, messages.Start):
            self._start(message)
            return
        held = self._of(message.id, message.attempt)
        if held is None:
            return
        if isinstance(message, messages.Notify):
            held.attempt.notify(message.entry)
        elif isinstance(message, messages.Signal):
            held.attempt.signal()
        elif isinstance(message, messages.Context):
            held.attempt.learn(message)
            held.whole = held.whole or message.last
            self._run_if_it_may(held)
        else:
            self._drop(held)

    def _start(self, start: messages.Start) -> None:
        before = self._held.get(start.id)
        if before is not None:
            if before.attempt.start.attempt >= start.attempt:
                return  # it came twice
            self._drop(before)
        service = self._services.get(start.service)
        handler = service.handlers.get(start.handler) if service is not None else None
        if handler is None:
            self._refuse_to_start(start)
            return
        self._held[start.id] = _Held(Attempt(start, handler, self))
        self._report(messages.Started(id=start.id, attempt=start.attempt, deployment=self._deployment))

    def _refuse_to_start(self, start: messages.Start) -> None:
        service = self._services.get(start.service)
        has = "it lacks that service" if service is None else f"it has {', '.join(sorted(service.handlers))}"
        failure = f"deployment {self._deployment} has no handler {start.service}/{start.handler}; {has}"
        outcome = OUTCOME_NAMES[Outcome.FAILURE]
        self._report(messages.Completed(id=start.id, attempt=start.attempt, outcome=outcome, failure=failure))

    def _run_if_it_may(self, held: _Held) -> None:
        if held.admitted and held.whole and held.task is None:
            self._run(held)

    def _run(self, held: _Held) -> None:
        held.task = asyncio.get_running_loop().create_task(held.attempt.run())

    def _drop(self, held: _Held) -> None:
        del self._held[held.attempt.start.id]
        held.attempt.drop()
        _take_down(held)

    def _of(self, id: str, attempt: int) -> _Held | None:
        held = self._held.get(id)
        return held if held is not None and held.attempt.start.attempt == attempt else None

    # -- reports ---------------------------------------------------------------------------------------------

    def take(self) -> list[messages.Report]:
        """The next reports, as many as go into one request; see `body_of`."""
        taken: list[messages.Report] = []
        while self._reports and len(taken) < limits.REPORTS_MAX:
            report = self._reports.popleft()
            # An attempt that was dropped since needs no leave to begin.
            if not isinstance(report, messages.Started) or self._of(report.id, report.attempt) is not None:
                taken.append(report)
        if not self._reports:
            self.something_to_report.clear()
        return taken

    def answered(self, reports: Sequence[messages.Report], answers: Sequence[Answer]) -> None:
        """What became of reports."""
        for report, (code, _, detail) in zip(reports, answers, strict=True):
            held = self._of(report.id, report.attempt)
            if held is None:
                continue
            if code == _APPLIED:
                if isinstance(report, messages.Started):
                    held.admitted = True
                    self._run_if_it_may(held)
                elif isinstance(report, messages.Steps):
                    held.attempt.acknowledge(report.first + len(report.steps))
                else:
                    del self._held[report.id]  # it has let go
            elif code in _OVER or isinstance(report, messages.Paused):
                self._drop(held)
            else:
                self._refused(held, report, detail or f"answered {code}")

    def _refused(self, held: _Held, report: messages.Report, detail: str) -> None:
        structlog.get_logger("coordinator.participant").error(
            "report refused", invocation=report.id, report=type(report).__name__, detail=detail
        )
        held.attempt.refuse(f"its {type(report).__name__} was refused: {detail}")
        _take_down(held)

    def _report(self, report: messages.Report) -> None:
        self._reports.append(report)
        self.something_to_report.set()

    # -- as the host of attempts -----------------------------------------------------------------------------

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return now_us()

    def parking(self) -> "asyncio.Future[None]":
        """A place to wait at."""
        return asyncio.get_running_loop().create_future()

    def emit(self, _attempt: Attempt, report: messages.Report) -> None:
        """Queue a report."""
        self._report(report)

    def call_at(self, attempt: Attempt, at_us: int) -> None:
        """Poke the attempt then."""
        self._deadlines.add(at_us, attempt)

    # -- the end ---------------------------------------------------------------------------------------------

    async def close(self, patience_s: float) -> None:
        """Take all attempts down. What they have reported stays; their clean-up has that long."""
        self._deadlines.close()
        tasks = [held.task for held in self._held.values() if held.task is not None and not held.task.done()]
        for held in list(self._held.values()):
            self._drop(held)
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)


def body_of(reports: Sequence[messages.Report]) -> tuple[int, bytes]:
    """How many of the reports go into one request, and its body."""
    encoded: list[bytes] = []
    room = limits.REPORTS_BYTES_MAX
    for report in reports:
        value = messages.encode(report)
        room -= len(value) + framing.HEAD_BYTES
        if room < 0 and encoded:
            break
        encoded.append(value)
    return len(encoded), framing.frames(encoded)


def _take_down(held: _Held) -> None:
    """Where the handler waits for its context it sees for itself that it is over; anywhere else it is interrupted."""
    if held.task is not None and not held.attempt.parked:
        held.task.cancel()
