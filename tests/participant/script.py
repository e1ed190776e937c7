"""One invocation as its partition keeps it, and a host that runs its attempts as a test says.

Time stands still unless a test moves it, nothing is sent unless it says so, and the handler runs only while the test
lets it. The partition here is a model of the real one for a single invocation: a journal, the state of its key, and
what it waits for.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from coordinator.model import ids
from coordinator.model.invocation import ServiceType, target_name
from coordinator.model.journal import Entry, Step, StepKind
from coordinator.model.messages import Completed, Report, Start, Started, Steps, Suspended
from coordinator.participant.attempt import Attempt
from coordinator.participant.services import AnyService

SECOND = 1_000_000
DEPLOYMENT = "dp_test"
ID = ids.derived_id("test", 1, None)


class Place:
    """Where a handler is parked, until the test lets it go on."""

    def __init__(self) -> None:
        self._free = False

    def __await__(self) -> Generator[Any, Any, None]:
        while not self._free:
            yield self

    def done(self) -> bool:
        return self._free

    def set_result(self, result: None, /) -> None:
        self._free = True


class Running:
    """One attempt, and its host."""

    inactivity_us = SECOND // 5

    def __init__(self, partition: Partition, start: Start) -> None:
        self.partition = partition
        self.reports: list[Report] = []
        """What it has said, and the partition has not been told."""
        self.attempt = Attempt(start, partition.service.handlers[start.handler], self)
        self._coroutine = self.attempt.run()
        self._ended = False
        self.advance()

    # -- as its host -----------------------------------------------------------------------------------------

    def now_us(self) -> int:
        return self.partition.now

    def parking(self) -> Place:
        return Place()

    def emit(self, attempt: Attempt, report: Report) -> None:
        self.reports.append(report)

    def call_at(self, attempt: Attempt, at_us: int) -> None:
        assert attempt.deadline == at_us

    # -- for the test ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let the handler run as far as it can."""
        while not self._ended:
            try:
                place = self._coroutine.send(None)
            except StopIteration:
                self._ended = True
            else:
                assert isinstance(place, Place), "the handler awaits something of the outside"
                if not place.done():
                    return

    def tell(self) -> list[Report]:
        """Have the partition apply what was reported, and answer it."""
        told, self.reports = self.reports, []
        for report in told:
            self.partition.apply(report)
            if isinstance(report, Steps):
                self.attempt.acknowledge(report.first + len(report.steps))
        self.advance()
        return told

    def settle(self) -> None:
        """Tell until there is nothing more to tell."""
        while self.reports:
            self.tell()

    def pass_time(self, us: int) -> None:
        """Let time pass, and poke the attempt when its deadline comes."""
        end = self.partition.now + us
        while (deadline := self.attempt.deadline) is not None and deadline <= end:
            self.partition.now = max(self.partition.now, deadline)
            self.attempt.poke()
            self.advance()
        self.partition.now = end

    def end_call(self, step: int, value: bytes | None = None, **how: Any) -> None:
        """A call ends, and the attempt is told."""
        self.attempt.notify(self.partition.end_call(step, value, **how))
        self.advance()

    def signal(self) -> None:
        self.partition.cancelled = True
        self.attempt.signal()
        self.advance()

    def kill(self) -> None:
        """Its process ends: what was not told is lost."""
        self._coroutine.close()
        self._ended = True


class Partition:
    """The invocation."""

    def __init__(
        self,
        service: AnyService,
        handler: str,
        input: bytes | None = None,
        *,
        id: str = ID,
        key: str | None = None,
        **fields: Any,
    ) -> None:
        self.id = id
        self.service = service
        self.now = 1_000 * SECOND
        self.journal: list[Entry] = []
        self.steps: list[Step] = []
        """As they were taken, each once."""
        self.values: dict[str, bytes] = {}
        self.cancelled = False
        self.suspended: Suspended | None = None
        self.ending: Report | None = None
        """What the newest attempt came to."""
        self._fields = {"handler": handler, "input": input, "key": key, "retry": 0, **fields}
        self.attempt = 0

    def run(self) -> Running:
        """Deliver the next attempt, and run it as far as it goes."""
        return Running(self, self.start())

    def start(self) -> Start:
        """The next attempt."""
        self.attempt += 1
        self.ending = self.suspended = None
        return Start(
            id=self.id,
            attempt=self.attempt,
            service=self.service.name,
            type=int(self.service.type),
            shared=self.service.handlers[self._fields["handler"]].shared,
            cancelled=self.cancelled,
            entries=tuple(self.journal),
            values=dict(self.values),
            **self._fields,
        )

    def apply(self, report: Report) -> None:
        """As the real one does, for a single invocation whose reports all come in order."""
        assert (report.id, report.attempt) == (self.id, self.attempt)
        assert self.ending is None, "it had let go"
        if isinstance(report, Steps):
            assert report.first <= len(self.journal), "a gap"
            for number, step in enumerate(report.steps, report.first):
                if number == len(self.journal):
                    self._take(step)
        elif not isinstance(report, Started):
            self.ending = report
            self.suspended = report if isinstance(report, Suspended) else None

    def end_call(
        self, step: int, value: bytes | None = None, *, outcome: str = "success", failure: str | None = None
    ) -> Entry:
        entry = self.journal[step]
        assert entry.kind == StepKind.CALL
        assert not entry.done
        entry.done, entry.value, entry.outcome, entry.failure = True, value, outcome, failure
        return entry

    def wakes(self) -> bool:
        """Whether a suspended invocation is ready again."""
        assert self.suspended is not None
        return (self.cancelled and not self.suspended.cancelled) or any(
            self.journal[step].done if self.journal[step].kind == StepKind.CALL else self._is_over(step)
            for step in self.suspended.awaiting
        )

    @property
    def completed(self) -> Completed:
        assert isinstance(self.ending, Completed), self.ending
        return self.ending

    def _is_over(self, step: int) -> bool:
        due_at = self.journal[step].due_at
        assert due_at is not None
        return due_at <= self.now

    def _take(self, step: Step) -> None:
        number = len(self.journal)
        self.steps.append(step)
        entry = Entry(
            step=number, kind=step.kind, name=step.name, value=step.value, failure=step.failure, number=step.number
        )
        call = step.call
        if call is not None:
            entry.name = target_name(call.service, call.key, call.handler)
            entry.child = ids.child_id(self.id, number, call)
            entry.done = step.kind != StepKind.CALL
        elif step.kind == StepKind.SLEEP:
            entry.due_at = self.now + step.duration
        elif step.kind == StepKind.SET:
            assert self.service.type != ServiceType.SERVICE
            entry.value, self.values[step.name] = None, step.value or b""
        elif step.kind == StepKind.CLEAR:
            self.values.pop(step.name, None)
        self.journal.append(entry)
