"""One simulated run: a random log for each partition of a cluster, from a seed, then drained.

Draining means: every batch is let go on, whatever is under way arrives, every attempt completes, time passes
until nothing is due. Then nothing may be left over.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

from coordinator.model import ids, limits, messages
from coordinator.model.invocation import CancelState, Invocation
from coordinator.model.statuses import Outcome, Status
from coordinator.partition import ticks
from coordinator.partition.state import Phase
from tests.simulation import names
from tests.simulation.cluster import Bounds, Links, Partition
from tests.simulation.participant import Participant
from tests.simulation.workload import Workload

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = 1_790_000_000 * SECOND
ROUNDS_MAX = 3_000

P = TypeVar("P", bound=Partition)


class Simulator(Generic[P]):
    """A cluster and everything outside of it."""

    def __init__(self, seed: str, make: Callable[[int, int], P]) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.bounds = Bounds(
            rows_per_record=rng.choice((limits.ROWS_PER_RECORD_MAX, 4)),
            deliveries=rng.choice((limits.DELIVERIES_MAX, limits.DELIVERIES_MAX, 4, 1)),
            pending=rng.choice((limits.PENDING_BATCHES_MAX, limits.PENDING_BATCHES_MAX, 3)),
        )
        self.now = START
        count = rng.choice((1, 1, 2, 3))
        self.partitions = [make(number, count) for number in range(count)]
        self.links = Links()
        self.workload = Workload(rng, count)
        self.participants = [Participant(rng) for _ in range(count)]
        self.tick_size = rng.choice((1, 2, 5, 500))
        self.records = rng.randrange(60, 151) * rng.choice((1,) * 11 + (5,))
        self.restarts = rng.random() < 0.2
        weights = {self._command: 8.0, self._arrival: 5.0, self._tick: 2.0, self._read: 4.0, self._report: 5.0}
        self.weights = {kind: weight * rng.choice((0.3, 1, 1, 2)) for kind, weight in weights.items()}

    # -- random ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The random part of the log."""
        kinds, weights = list(self.weights), list(self.weights.values())
        for _ in range(self.records // 5):  # something to act on
            self._pass_time()
            self.append(
                *self.rng.choice((self.workload.invoke, self.workload.invoke, self.workload.import_row))(self.now)
            )
        while sum(len(partition.log) for partition in self.partitions) < self.records:
            self._pass_time()
            if self.restarts and self.rng.random() < 0.1:
                self.rng.choice(self.partitions).restart()
            self.rng.choices(kinds, weights)[0]()

    def _pass_time(self) -> None:
        if self.rng.random() < 0.4:
            self.now += self.rng.choice((1, 1, 1000, SECOND // 2, SECOND, SECOND, 20 * SECOND))
            if self.rng.random() < 0.01:
                self.now += self.rng.choice((DAY, 3 * DAY))

    def append(self, partition: int, command: messages.Command | bytes) -> None:
        value = command if isinstance(command, bytes) else messages.encode(command)
        at = self.now - (self.rng.random() < 0.03)
        answer, outgoing = self.partitions[partition].append(value, at)
        self.links.send(partition, outgoing)
        self.participants[partition].deliver(outgoing)
        if isinstance(command, messages.Report):
            self.participants[partition].answered(command, answer)

    def _command(self) -> None:
        partition, command = self.workload.draw(self.now)
        self.append(partition, command)

    def _arrival(self) -> None:
        waiting = self.links.waiting()
        if self.links.arrived and self.rng.random() < 0.1:  # once more
            pair = self.rng.choice(list(self.links.arrived))
            self.append(pair[1], self.rng.choice(self.links.arrived[pair]))
        elif waiting:
            pair = self.rng.choice(waiting)
            value = self.links.next_of(pair)
            command = messages.decode_command(value)
            if isinstance(command, messages.Invoke):
                self.workload.created([command.id])
            self.append(pair[1], value)

    def _tick(self) -> None:
        number = self.rng.randrange(len(self.partitions))
        wrong = self.rng.choice((-1, 1)) if self.rng.random() < 0.05 else 0
        self.tick(number, wrong)

    def tick(self, number: int, wrong: int = 0) -> None:
        def quota() -> int:
            return self.rng.randrange(0, self.tick_size + 1)

        last = self.partitions[number].machine.state.tick
        tick = messages.Tick(tick=last + 1 + wrong, sweep=quota(), single=quota(), timers=quota(), work=quota())
        self.append(number, tick)

    def _read(self) -> None:
        busy = [participant for participant in self.participants if participant.inbox]
        if busy:
            self.rng.choice(busy).read()

    def _report(self) -> None:
        number = self.rng.randrange(len(self.partitions))
        report = self.participants[number].report(self.now)
        if report is not None:
            self.append(number, report)

    # -- to the end ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let batches end and what is under way arrive, while the participants sleep."""
        for partition in self.partitions:
            self.append(partition.number, messages.ImportEnd())
            if partition.machine.state.served is not None:
                every = (*names.SERVICES, *(f"@{deployment}" for deployment in (*names.DEPLOYMENTS, "dp3")))
                self.append(partition.number, messages.Serve(lanes=every))
        self.tick_size = max(self.tick_size, 5)
        self._until_quiet(self._settle_once)

    def drain(self) -> None:
        """Let everything come to its end."""
        self._until_quiet(self._drain_once)

    def _until_quiet(self, once: Callable[[], bool]) -> None:
        for _ in range(ROUNDS_MAX):
            if not once():
                return
        raise AssertionError("the cluster does not come to rest")

    def _settle_once(self) -> bool:
        busy = False
        for pair in self.links.waiting():
            self.append(pair[1], self.links.next_of(pair))
            busy = True
        for number, partition in enumerate(self.partitions):
            busy = self._let_batches_go_on(partition) or busy
            if ticks.wanted(partition.machine, self.now):
                self.tick(number)
                busy = True
        return busy

    def _drain_once(self) -> bool:
        """One round of everything that is left to do; False when there was nothing."""
        busy = self._settle_once()
        for number, participant in enumerate(self.participants):
            while participant.inbox:
                participant.read()
            if (report := participant.finish()) is not None:
                self.append(number, report)
                busy = True
        return busy or self._nudge() or self._wait()

    def _let_batches_go_on(self, partition: P) -> bool:
        for state in list(partition.machine.batches.values()):
            if state.phase is Phase.PENDING and (state.paused or state.rate is not None):
                self.append(partition.number, messages.Control(request=state.request, revision=state.revision + 1))
                return True
            if state.phase is Phase.PREPARED:
                if self.rng.random() < 0.7:
                    self.append(partition.number, messages.Commit(request=state.request, not_after=self.now))
                else:
                    control = messages.Control(request=state.request, revision=state.revision + 1, aborted=True)
                    self.append(partition.number, control)
                return True
        return False

    def _nudge(self) -> bool:
        """What only an operator can get to go on."""
        for number, partition in enumerate(self.partitions):
            for row in self.rows(partition):
                if row.status == Status.PAUSED:
                    self.append(number, messages.Act(action="resume", id=row.id))
                    return True
                # One that has open children still waits, on a key that it holds itself, in the end.
                deadlocked = bool(partition.store.edges(row.id, "", 1))
                if row.status == Status.SUSPENDED and (deadlocked or self._waits_for_nothing(number, row)):
                    self.append(number, messages.Act(action="kill", id=row.id))
                    return True
        return False

    def _waits_for_nothing(self, number: int, row: Invocation) -> bool:
        """It was suspended without having called anybody: by an import, or by a participant's whim."""
        participant = self.participants[number]
        whim = (row.id, row.attempt) in participant.waits_for_nothing or row.id in participant.confused
        return whim or not row.children or not row.attempt

    def _wait(self) -> bool:
        """Let time pass until the next thing is due, but for the retention of what has ended."""
        dues = [
            row.timer_at
            for partition in self.partitions
            for row in self.rows(partition)
            if row.status != Status.COMPLETED and row.timer_at is not None
        ]
        dues += [
            state.told_at + limits.PROGRESS_INTERVAL_US for p in self.partitions for state in p.machine.owing.values()
        ]
        if not dues:
            return False
        self.now = max(self.now + 1, *dues)
        return True

    def rows(self, partition: P) -> list[Invocation]:
        """All rows of a partition, as stored."""
        found = (partition.store.by_seq(seq) for seq in range(1, partition.machine.state.next_seq))
        return [row for row in found if row is not None]

    # -- what is left then -----------------------------------------------------------------------------------

    def check_trees(self, used_again: set[str]) -> None:
        """Everything has arrived: nothing attached outlives a killed parent, nothing open waits unasked.

        Not of ids that were purged and used again: messages for the earlier invocation may have met the later one.
        """
        rows = {row.id: row for partition in self.partitions for row in self.rows(partition)}
        # What a call by an idempotency key was attached to has another id than its caller knows.
        attached = {
            child
            for partition in self.partitions
            for row in self.rows(partition)
            for _, child in partition.store.awaiters(row.seq, limits.CHILDREN_MAX)
        }
        for row in rows.values():
            if row.status == Status.COMPLETED or {row.id, row.parent} & used_again:
                continue
            parent = rows.get(row.parent or "")
            if parent is not None and not row.detached:
                killed = parent.status == Status.COMPLETED and parent.outcome == Outcome.KILLED
                assert not killed, f"{row} outlives its parent, which was killed: {parent}"
            edges = self.partition_of(row.id).store.edges(row.id, "", limits.CHILDREN_MAX)
            for child in set(edges) - used_again - attached:
                open_child = rows.get(child)
                assert open_child is not None, f"{row} has an edge to {child}, which is not there"
                assert open_child.status != Status.COMPLETED, f"{row} has an edge to a child that has ended: {child}"
                asked = row.cancel != CancelState.REQUESTED or open_child.cancel
                assert asked, f"{row} waits to be cancelled for a child that was never asked: {open_child}"

    def check_rest(self, forgotten: set[str]) -> None:
        """Nothing may be left over once everything has come to its end. `forgotten` are requests that some forgot."""
        rows = {row.id: row for partition in self.partitions for row in self.rows(partition)}
        left = [row for row in rows.values() if row.status != Status.COMPLETED]
        assert not left, f"{len(left)} invocations never ended, as {left[0]}"
        for partition in self.partitions:
            machine = partition.machine
            assert not machine.pending
            assert not machine.state.works
            assert not machine.state.held
            over = (Phase.COMPLETED, Phase.ABORTED, Phase.ANNOUNCED)
            for state in machine.batches.values():
                assert state.phase in over, f"batch {state.request} is {state.phase}"
                assert not state.work_open
                assert not state.tally.signalled, f"batch {state.request} waits for handlers that have ended"
            for other in self.partitions:
                head = machine.state.heads.get(other.number)
                sent = 0 if head is None else head.number
                assert sent == other.machine.state.received.get(partition.number, 0)
        self._check_batches_arrived(forgotten)

    def _check_batches_arrived(self, forgotten: set[str]) -> None:
        for source in self.partitions:
            for state in source.machine.batches.values():
                for destination, count in state.sent.items():
                    if state.request in forgotten:
                        continue
                    there = self.partitions[destination].machine.batches[state.request]
                    assert there.received.get(source.number, 0) == count, f"{state.request} is not settled"

    def partition_of(self, id: str) -> P:
        return self.partitions[ids.partition_of(id, len(self.partitions))]
