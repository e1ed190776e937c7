"""What the log itself says of a system that was put through faults, beside what the system shows.

Owners that were replaced and did not know it, and those that began anew, have appended things twice. What is told apart
by a number must be the same each time, or it was not the same partition that said it. Which invocations a batch had
in its scope follows from the log alone: those that were created in front of it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from coordinator.logs.port import Stream
from coordinator.model import ids, messages
from tests.system.evidence import Evidence
from tests.system.oracle import OUTCOMES, may_be_purged

Rows = dict[str, dict[str, Any]]


@dataclass
class Read:
    """The log, taken apart."""

    repeated: Counter[str] = field(default_factory=Counter)
    """What is there more than once, by what it is."""
    created: dict[str, int] = field(default_factory=dict)
    """Position of the first record that creates each invocation."""
    began: dict[tuple[str, int], int] = field(default_factory=dict)
    """Position of the first report that an attempt began."""
    batches: dict[tuple[str, int], int] = field(default_factory=dict)
    """Position of the first command of each batch, by request and partition."""
    ends: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """Source and number of what parents were told of the end of each child."""


def read(found: Evidence) -> Read:
    """Read it from end to end, and hold repetitions against each other."""
    log = Read()
    numbered: dict[tuple[object, ...], messages.Message] = {}

    def same(what: str, message: messages.Message, *number: object) -> None:
        log.repeated[what] += (what, *number) in numbered
        assert numbered.setdefault((what, *number), message) == message, f"{what} {number} is on the log as two"

    for partition, position, command in found.commands():
        match command:
            case messages.Invoke() | messages.Import():
                log.created.setdefault(command.id, position)
            case messages.Started():
                log.began.setdefault((command.id, command.attempt), position)
            case messages.Batch():
                log.repeated["batch command"] += (command.request, partition) in log.batches
                log.batches.setdefault((command.request, partition), position)
            case messages.ChildEnded():
                log.ends.setdefault(command.child, set()).add((command.source, command.number))
            case messages.Tick():
                log.repeated["tick"] += ("tick", partition, command.tick) in numbered
                numbered["tick", partition, command.tick] = command
        if command.source >= 0:
            same("message between partitions", command, partition, command.source, command.number)
    for record in found.records(Stream.PROGRESS):
        progress = messages.decode_progress(record.value)
        if isinstance(progress, messages.Progress):
            same("progress", progress, progress.request, progress.partition, progress.number)
    return log


class Judge:
    """Holds what the system shows (rows, batches) against the log and the stores."""

    def __init__(self, found: Evidence, rows: Rows, shown: Rows) -> None:
        self.log = read(found)
        self._rows = rows
        self._shown = shown
        self._partitions = len(found.stores)
        self._kept = {
            (batch.request, number): batch for number in range(self._partitions) for batch in found.batches(number)
        }

    def judge(self, ran: set[tuple[str, int]]) -> None:
        """`ran` are the attempts that a participant has run."""
        twice = {child: ends for child, ends in self.log.ends.items() if len(ends) > 1}
        assert not twice, f"parents were told twice: {twice}"
        self._stores_agree()
        self._each_is_counted_once()
        self._nothing_else_is_ended()
        self._all_in_scope_is_ended()
        self._nothing_in_scope_was_run(ran)

    def _on(self, row: dict[str, Any]) -> int:
        return ids.partition_of(row["id"], self._partitions)

    def _in_front(self, row: dict[str, Any], request: str) -> bool:
        """Whether the row was there when the batch's command came."""
        return self.log.created[row["id"]] < self.log.batches[request, self._on(row)]

    def _stores_agree(self) -> None:
        """Each partition's store has counted what is shown of it, and has the batch where the log has it first."""
        for batch in self._shown.values():
            for one in batch["partitions"]:
                place = batch["id"], one["partition"]
                stored = self._kept[place]
                assert stored.position == one["position"] == self.log.batches[place], (batch, stored)
                for name in ("matched", *messages.Tally.COUNTED):
                    assert getattr(stored.tally, name) == one[name], (name, batch, stored)
                assert stored.propagated == one["propagated"], (batch, stored)

    def _each_is_counted_once(self) -> None:
        """On each partition a batch has counted as many ends as rows there say that it was this batch."""
        named = Counter((row["batch"], self._on(row), row["outcome"]) for row in self._rows.values())
        for request, batch in self._shown.items():
            outcome = OUTCOMES.get(batch["action"])
            if outcome is None or batch["dry_run"] or may_be_purged(batch):
                continue
            for one in batch["partitions"]:
                assert named[request, one["partition"], outcome] == one["ended"] + one["propagated"], (batch, one)

    def _nothing_else_is_ended(self) -> None:
        """Whatever names a batch was there before it and is of its service, or was called by one that is so."""
        for row in self._rows.values():
            if row["batch"] is not None:
                batch, parent = self._shown[row["batch"]], self._rows.get(row["invoked_by"] or "")
                called = parent is not None and self._may_be_meant(parent, batch)
                assert called or self._may_be_meant(row, batch), (row, batch)

    def _may_be_meant(self, row: dict[str, Any], batch: dict[str, Any]) -> bool:
        return self._in_front(row, batch["id"]) and batch["filter"].get("service", row["service"]) == row["service"]

    def _all_in_scope_is_ended(self) -> None:
        """Of each completed kill of a whole service."""
        by_service: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows.values():
            by_service.setdefault(row["service"], []).append(row)
        for batch in self._shown.values():
            whole = batch["filter"].keys() == {"service"} and batch["guard"] is None and not batch["dry_run"]
            if whole and (batch["action"], batch["state"]) == ("kill", "completed"):
                rows = by_service.get(batch["filter"]["service"], [])
                alive = [row for row in rows if row["status"] != "completed" and self._in_front(row, batch["id"])]
                assert not alive, (alive, batch)

    def _nothing_in_scope_was_run(self, ran: set[tuple[str, int]]) -> None:
        """No handler has run an attempt that began behind the batch that has killed its invocation."""
        for id, attempt in ran:
            row = self._rows[id]
            if row["outcome"] == "killed" and row["batch"] is not None:
                killed_at = self._kept[row["batch"], self._on(row)].in_force
                assert self.log.began[id, attempt] < killed_at, (row, attempt, killed_at)
