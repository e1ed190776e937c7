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
from coordinator.model.invocation import Invocation, status_name

SCHEDULED: Final = "scheduled"
SUSPENDED: Final = "suspended"
_READY: Final = "ready"
_WAIT_FOR_A_TIME: Final = (SCHEDULED, "backing-off")


class Ledger:
    """The invocations of one service on one partition, up to some position of its log."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._tick = 0
        self._rows = 0
        self._due: list[tuple[int, int, str]] = []
        self.status: dict[str, str] = {}
        self.created_at: dict[str, int] = {}
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
                    self.status[command.parent] = _READY
            case messages.ImportEnd() | messages.Adopt() | messages.Batch():
                pass
            case _:
                self.not_understood += 1
        return command

    def _create(self, id: str, service: str, status: str, created_at: int, due_at: int | None) -> None:
        self._rows += 1
        if status in _WAIT_FOR_A_TIME and due_at is not None:
            heapq.heappush(self._due, (due_at, self._rows, id))
        if service == self._service:
            self.status[id] = status
            self.created_at[id] = created_at

    def _come_due(self, at: int, most: int) -> None:
        """A tick starts what was due when it was appended, oldest first, as many as it says."""
        while self._due and most > 0 and self._due[0][0] <= at:
            _, _, id = heapq.heappop(self._due)
            most -= 1
            if self.status.get(id) in _WAIT_FOR_A_TIME:
                self.status[id] = _READY

    def matching(self, statuses: Iterable[str], created_before: int) -> dict[str, str]:
        """Those in one of these statuses that are older: their ids and statuses."""
        wanted = frozenset(statuses)
        return {
            id: status
            for id, status in self.status.items()
            if status in wanted and self.created_at[id] < created_before
        }
