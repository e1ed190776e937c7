"""Which invocations a command means at its position, worked out by hand.

The system answers this with filters, cursors and catching up. Here it is done as one would on paper: go through the
records in front of the position, write down what each invocation of the service is, strike out what has come due.
Shared with the system are the definitions of its messages and nothing of its machine. Kinds of records that
no one sends in the demo are not understood, and are counted instead of guessed at.
"""

import heapq
from collections.abc import Iterable
from typing import Final

from coordinator.logs.port import Record
from coordinator.model import messages
from coordinator.model.invocation import HELD, Invocation, status_name
from coordinator.model.journal import StepKind

SCHEDULED: Final = "scheduled"
SUSPENDED: Final = "suspended"
_READY: Final = "ready"
_RUNNING: Final = "running"
_COMPLETED: Final = "completed"
_WAIT_FOR_A_TIME: Final = (SCHEDULED, SUSPENDED, "backing-off")
_WITHOUT_EFFECT: Final = (messages.ImportEnd, messages.Adopt, messages.Batch, messages.Serve)
"""On the status of what is there, that is; the batch is what the ledger is made for."""
_OWN_STEPS: Final = (StepKind.SLEEP, StepKind.RUN, StepKind.GET, StepKind.SET)
"""They concern the invocation alone."""


class Ledger:
    """The invocations of one service on one partition, up to some position of its log."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._tick = 0
        self._rows = 0
        self._timers: list[tuple[int, int, str]] = []
        self.status: dict[str, str] = {}
        self.created_at: dict[str, int] = {}
        self.due_at: dict[str, int] = {}
        """When those that wait for a time go on."""
        self.over: dict[str, int] = {}
        """The newest attempt that a participant has let go of, where there was one."""
        self.sleeps: dict[tuple[str, int], int] = {}
        """Until when a handler sleeps, by invocation and step."""
        self.invoked: set[str] = set()
        """Those that came as live commands."""
        self.not_understood = 0

    @classmethod
    def of_store(cls, service: str, rows: Iterable[Invocation], tick: int) -> "Ledger":
        """What a scan of the store shows, where the last tick applied has this number."""
        ledger = cls(service)
        for row in sorted(rows, key=lambda row: row.seq):
            ledger._rows = row.seq - 1
            ledger._create(row.id, row.service, status_name(row), row.created_at, row.timer_at)
            ledger.over[row.id] = row.attempt - bool(row.ties & HELD)
        ledger._tick = tick
        return ledger

    def apply(self, record: Record) -> messages.Command:
        """Go on by one record."""
        command: messages.Command = messages.decode_command(record.value)
        at = record.appended_at
        match command:
            case messages.Import():
                if command.id not in self.status:
                    self._create(command.id, command.service, command.status, command.created_at, command.due_at)
            case messages.Invoke():
                later = command.due_at is not None and command.due_at > at
                self._create(command.id, command.service, SCHEDULED if later else _READY, at, command.due_at)
                self.invoked.add(command.id)
            case messages.Tick():
                if command.tick == self._tick + 1:
                    self._tick = command.tick
                    self._come_due(at, command.timers)
            case messages.ChildEnded():
                if self.status.get(command.parent) == SUSPENDED:
                    self._become(command.parent, _READY)
            case messages.Report():
                if command.attempt > self.over.get(command.id, 0):
                    self._reported(command, at)
            case _:
                self.not_understood += not isinstance(command, _WITHOUT_EFFECT)
        return command

    def _reported(self, report: messages.Report, at: int) -> None:
        """A participant tells of the attempt that it has."""
        id = report.id
        match report:
            case messages.Started():
                self._become(id, _RUNNING)
                return
            case messages.Steps():
                for number, step in enumerate(report.steps, report.first):
                    if step.kind == StepKind.SLEEP:
                        self.sleeps.setdefault((id, number), at + step.duration)
                    self.not_understood += step.kind not in _OWN_STEPS
                return
            case messages.Suspended():
                until = min((self.sleeps.get((id, step), 0) for step in report.awaiting), default=0)
                self.not_understood += until == 0
                self._become(id, *((SUSPENDED, until) if until > at else (_READY,)))
            case messages.Completed():
                self._become(id, _COMPLETED)
            case messages.Released():
                self._become(id, _READY)
            case _:
                self.not_understood += 1
        self.over[id] = report.attempt

    def _create(self, id: str, service: str, status: str, created_at: int, due_at: int | None) -> None:
        self._rows += 1
        if service == self._service:
            self.created_at[id] = created_at
            self.status[id] = status
        if status in _WAIT_FOR_A_TIME and due_at is not None:
            self._wait(id, due_at)

    def _become(self, id: str, status: str, due_at: int | None = None) -> None:
        self.due_at.pop(id, None)
        if id in self.status:
            self.status[id] = status
        if due_at is not None:
            self._wait(id, due_at)

    def _wait(self, id: str, due_at: int) -> None:
        # Of every service: timers share what ticks have room for.
        heapq.heappush(self._timers, (due_at, self._rows, id))
        if id in self.status:
            self.due_at[id] = due_at

    def _come_due(self, at: int, most: int) -> None:
        """A tick wakes what was due when it was appended, oldest first, as many as it says."""
        while self._timers and most > 0 and self._timers[0][0] <= at:
            due_at, _, id = heapq.heappop(self._timers)
            most -= 1
            if self.due_at.get(id) == due_at:
                self._become(id, _READY)

    def matching(self, statuses: Iterable[str], created_before: int) -> dict[str, str]:
        """Those in one of these statuses that are older: their ids and statuses."""
        wanted = frozenset(statuses)
        return {
            id: status
            for id, status in self.status.items()
            if status in wanted and self.created_at[id] < created_before
        }
