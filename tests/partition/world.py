"""A small cluster under the test's control: every record, every delivery and the time are the test's.

Each partition is watched (`tests.simulation.watched`), so whatever a test does, its rows are compared with the
eager model all along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.invocation import Invocation, outcome_name, status_name
from coordinator.model.journal import Step
from coordinator.partition import ticks
from coordinator.partition.outputs import Answer, Outgoing
from coordinator.partition.state import DEAD_LETTERS, DELIVERIES, PROGRESS
from tests.simulation.cluster import Links
from tests.simulation.watched import WatchedPartition

SECOND = 1_000_000
START = 1_790_000_000 * SECOND


def unkeyed(number: int) -> str:
    """An id of a plain service's invocation."""
    return ids.derived_id("test", number, None)


def keyed(key: str, number: int) -> str:
    """An id of a keyed target's invocation."""
    return ids.derived_id("test", number, key)


class World:
    """One or more partitions of a cluster."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = [WatchedPartition(number, partitions) for number in range(partitions)]
        self.links = Links()
        self.now = START
        self.ids = 0
        self.steps: dict[str, int] = {}
        """Id -> steps that its handler has taken."""
        self.last: list[Outgoing] = []
        """What the newest record sent."""

    # -- records ---------------------------------------------------------------------------------------------

    def append(self, command: messages.Command | bytes, *, to: int | None = None, after: int = 0) -> Answer | None:
        """Append a record, `after` microseconds after the last one; where it goes it tells itself."""
        self.now += after
        partition = self.route(command) if to is None else to
        value = command if isinstance(command, bytes) else messages.encode(command)
        answer, self.last = self.partitions[partition].append(value, self.now)
        self.links.send(partition, self.last)
        return answer

    def answer(self, command: messages.Command | bytes, *, to: int | None = None, after: int = 0) -> Answer:
        """The same, of a record that is answered."""
        answer = self.append(command, to=to, after=after)
        assert answer is not None
        return answer

    def route(self, command: messages.Command | bytes) -> int:
        id = getattr(command, "id", None)
        return 0 if id is None else ids.partition_of(id, len(self.partitions))

    def tick(self, *, to: int = 0, after: int = 0, **quotas: int) -> None:
        """One tick, of full size where nothing is said."""
        self.append(messages.Tick(tick=self.partitions[to].machine.state.tick + 1, **quotas), to=to, after=after)

    def tick_until_idle(self, *, to: int = 0, **quotas: int) -> int:
        """As many ticks as find something to do; how many."""
        count = 0
        while ticks.wanted(self.partitions[to].machine, self.now):
            self.tick(to=to, **quotas)
            count += 1
        return count

    def wanted_at(self, *, of: int = 0) -> int | None:
        """When the partition wants its next tick."""
        return ticks.next_due(self.partitions[of].machine, self.now)

    def arrive(self, number: int | None = None) -> int:
        """Let messages between partitions arrive: all of them, and what they lead to, or so many. How many did."""
        count = 0
        while (number is None or count < number) and (waiting := self.links.waiting()):
            self.append(self.links.next_of(waiting[0]), to=waiting[0][1])
            count += 1
        return count

    def settle(self) -> None:
        """Everything that happens by itself, at this time."""
        while self.arrive() or any(self.tick_until_idle(to=number) for number in range(len(self.partitions))):
            pass

    # -- commands in short -----------------------------------------------------------------------------------

    def invoke(self, service: str = "Greeter", handler: str = "greet", *, key: str | None = None, **fields: Any) -> str:
        """A new invocation: of a plain service, or with a key of a virtual object. Its id."""
        self.ids += 1
        id = fields.pop("id", None) or ids.derived_id("world", self.ids, key)
        fields.setdefault("type", 0 if key is None else 1)
        self.append(messages.Invoke(id=id, service=service, handler=handler, key=key, **fields))
        return id

    def import_row(self, status: str, *, service: str = "Greeter", key: str | None = None, **fields: Any) -> str:
        """An imported invocation in this status. Its id."""
        self.ids += 1
        id = fields.pop("id", None) or ids.derived_id("import", self.ids, key)
        fields = {"created_at": self.now, "modified_at": self.now, "type": 0 if key is None else 1, **fields}
        if status == "completed":
            fields.setdefault("outcome", "success")
        self.append(messages.Import(id=id, service=service, handler="greet", key=key, status=status, **fields))
        return id

    def batch(self, request: str, action: str, filter: Filter, *, to: int = 0, **fields: Any) -> Answer:
        """A batch, in force at its record's position."""
        fields.setdefault("not_after", self.now + limits.NOT_AFTER_US)
        return self.answer(messages.Batch(request=request, action=action, filter=filter, **fields), to=to)

    def act(self, action: str, id: str, **fields: Any) -> Answer:
        return self.answer(messages.Act(action=action, id=id, **fields))

    def run(self, id: str) -> None:
        """Report that the newest attempt runs."""
        self.append(messages.Started(id=id, attempt=self.row(id).attempt))

    def suspend(self, id: str, **fields: Any) -> Answer | None:
        return self.append(messages.Suspended(id=id, attempt=self.row(id).attempt, **fields))

    def complete(self, id: str, outcome: str = "success", **fields: Any) -> Answer | None:
        return self.append(messages.Completed(id=id, attempt=self.row(id).attempt, outcome=outcome, **fields))

    def back_off(self, id: str, wait: int = SECOND) -> None:
        retry_at = self.now + wait
        self.append(messages.BackingOff(id=id, attempt=self.row(id).attempt, retry_at=retry_at, failure="no", retry=1))

    def give_up(self, id: str) -> None:
        self.append(messages.Paused(id=id, attempt=self.row(id).attempt, failure="no", retry=1))

    def take(self, id: str, *steps: Step, first: int | None = None) -> Answer:
        """Let the running handler take steps, behind those that it took."""
        if first is None:
            first = self.steps.get(id, 0)
        self.steps[id] = max(self.steps.get(id, 0), first + len(steps))
        return self.answer(messages.Steps(id=id, attempt=self.row(id).attempt, first=first, steps=steps))

    def call(self, id: str, *steps: Step) -> list[str]:
        """Let the running handler call others. The ids of what it called."""
        self.take(id, *steps)
        return [command.id for command in self.commands() if isinstance(command, messages.Invoke)]

    def in_status(self, status: str, **fields: Any) -> str:
        """A new invocation, brought into this status by what brings one there."""
        if status == "scheduled":
            return self.invoke(due_at=self.now + 3_600 * SECOND, **fields)
        if status == "pending":
            self.invoke("Cart", key="in_status", id=keyed("in_status", 0))
            return self.invoke("Cart", key="in_status", **fields)
        id = self.invoke(**fields)
        if status != "ready":
            self.run(id)
        if status == "backing-off":
            self.back_off(id, 3_600 * SECOND)
        elif status == "suspended":
            self.suspend(id)
        elif status == "paused":
            self.give_up(id)
        elif status == "completed":
            self.complete(id)
        assert status_name(self.row(id)) == status
        return id

    def overwrite(self, id: str, **fields: Any) -> None:
        """Bring a row where it would take too many records to get."""
        partition = self.partitions[ids.partition_of(id, len(self.partitions))]
        partition.store.begin()
        row = self.row(id)
        for name, value in fields.items():
            setattr(row, name, value)
        partition.store.save(row)
        partition.store.commit()
        for known in (partition.stored, partition.model.rows):
            known[row.seq] = self.row(id)

    # -- what there is ---------------------------------------------------------------------------------------

    def row(self, id: str) -> Invocation:
        """The row as stored."""
        row = self.find(id)
        assert row is not None, f"{id} is not there"
        return row

    def find(self, id: str) -> Invocation | None:
        return self.partitions[ids.partition_of(id, len(self.partitions))].store.by_id(id)

    def status(self, id: str) -> str | None:
        """The status as stored, with the outcome where it has ended: `killed`. None when it is gone."""
        row = self.find(id)
        return None if row is None else outcome_name(row) or status_name(row)

    def seen(self, id: str) -> str | None:
        """The status as any reader must see it, with pending batches folded in."""
        partition = self.partitions[ids.partition_of(id, len(self.partitions))]
        row = partition.model.as_seen(partition.store.by_id(id))
        return None if row is None else outcome_name(row) or status_name(row)

    # -- what was sent ---------------------------------------------------------------------------------------

    def of(self, destination: int, outgoing: list[Outgoing] | None = None) -> Iterator[bytes]:
        for entry in self.last if outgoing is None else outgoing:
            if entry.destination == destination or (destination == 0 and entry.destination > 0):
                yield entry.value

    def commands(self) -> list[messages.Command]:
        """What the newest record sent to partitions."""
        return [messages.decode_command(value) for value in self.of(0)]

    def deliveries(self) -> list[messages.Delivery]:
        """What the newest record told participants."""
        return [messages.decode_delivery(value) for value in self.of(DELIVERIES)]

    def dead_letters(self) -> list[messages.DeadLetter]:
        return [messages.decode_dead_letter(value) for value in self.of(DEAD_LETTERS)]

    def told(self, request: str, *, of: int = 0) -> messages.Progress:
        """The newest progress of a batch."""
        found: list[messages.Progress] = [
            progress
            for value in self.of(PROGRESS, self.partitions[of].sent)
            if (progress := messages.decode_progress(value)).request == request
        ]
        assert found, f"nothing was told of {request}"
        return found[-1]

    def counts(self, request: str, *, of: int = 0) -> dict[str, int]:
        """What a batch has counted by now, without zeros."""
        tally = self.partitions[of].machine.batches[request].tally
        return {name: count for name in ("matched", *tally.COUNTED) if (count := getattr(tally, name))}
