"""A whole system in one thread: partitions, the links between them, the dispatcher's core, and participants.

Everything that takes time in the real one is an event here, and the test's random numbers say which comes next: a
message between partitions arrives, a delivery is read, a chunk of a stream comes through, a handler goes on, reports
are sent, applied and answered, time passes, a tick comes. So every interleaving is possible, and a seed repeats one.

What must hold at each moment is asserted where it happens (`_applied`, `_delivered`, `_written`); `check_trees` is
for a moment at which nothing is under way, and `check_rest` for the end.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from coordinator.model import framing, ids, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import HELD, CancelState, Invocation
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.statuses import OUTCOME_NAMES, Outcome, Status
from coordinator.participant.services import AnyService
from coordinator.participant.transport import Answer
from coordinator.partition import ticks
from coordinator.partition.outputs import Outgoing
from coordinator.partition.state import DELIVERIES
from coordinator.requests.deployments import Registry
from coordinator.runtime.dispatch import reports
from coordinator.runtime.dispatch.core import Dispatch
from tests.simulation.cluster import Links, Partition
from tests.simulation.keys import Keys
from tests.simulation.watched import WatchedStore
from tests.trees.processes import Process, StepwiseRunner

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
ROUNDS_MAX = 200_000
CHUNK = 4_096


class Store(WatchedStore):
    """Notes how each invocation has ended, before it can be purged."""

    def __init__(self, endings: dict[str, Outcome]) -> None:
        super().__init__()
        self._endings = endings

    def save(self, row: Invocation) -> None:
        if row.outcome is not None:
            self._endings.setdefault(row.id, Outcome(row.outcome))
        super().save(row)


class World:
    """See above."""

    def __init__(self, rng: random.Random, services: Sequence[AnyService], *, partitions: int) -> None:
        self.rng = rng
        self.now = START
        self.services = services
        self.endings: dict[str, Outcome] = {}
        """Id → how it has ended, unless a sweep has ended it: those have no callers and nobody whom they call."""
        self.partitions = [Partition(number, partitions, Store(self.endings)) for number in range(partitions)]
        self._keys = [Keys() for _ in self.partitions]
        self.links = Links()
        self.registry = Registry()
        self.core = Dispatch(self.registry)
        self.processes: list[Process] = []
        self._feeds: list[deque[bytes]] = [deque() for _ in self.partitions]
        self._outboxes: list[deque[bytes]] = [deque() for _ in self.partitions]
        """What the dispatcher has appended and no partition has read."""
        self._sessions = 0
        self.attached: dict[str, str] = {}
        """Id of a call that met an invocation which was there already → the id of that one."""
        self.completed: dict[str, messages.Completed] = {}
        """Those whose handlers have ended them."""
        self.on_completed: Callable[[messages.Completed], None] = lambda report: None
        self.journals: dict[str, list[tuple[int, Step]]] = {}
        """Id → its steps and the attempts that took them, as its partition has acknowledged them."""
        self.start_server()

    # -- the log ---------------------------------------------------------------------------------------------

    def append(self, number: int, value: bytes) -> Any:
        """Append a record and apply it; what it sends is under way."""
        answer, outgoing = self.partitions[number].append(value, self.now)
        self._written(number)
        self.links.send(number, outgoing)
        for entry in outgoing:
            if entry.destination == DELIVERIES:
                self._delivered(number, messages.decode_delivery(entry.value), outgoing)
                self._feeds[number].append(entry.value)
        return answer

    def arrive(self, pair: tuple[int, int]) -> None:
        """The next message between two partitions arrives."""
        value = self.links.next_of(pair)
        answer = self.append(pair[1], value)
        command = messages.decode_command(value)
        if isinstance(command, messages.Invoke) and answer.id != command.id:
            self.attached[command.id] = answer.id

    def arrive_again(self) -> None:
        """A message between two partitions comes once more."""
        if self.links.arrived:
            pair = self.rng.choice(list(self.links.arrived))
            self.append(pair[1], self.rng.choice(self.links.arrived[pair]))

    @property
    def records(self) -> list[int]:
        """How many have been applied, by partition."""
        return [len(partition.log) for partition in self.partitions]

    def command(self, command: messages.Command) -> Any:
        """Append a command to the partition of the id that it names."""
        return self.append(self.number_of(command.id), messages.encode(command))  # type: ignore[attr-defined]

    def number_of(self, id: str) -> int:
        """The partition of an invocation."""
        return ids.partition_of(id, len(self.partitions))

    def everywhere(self, command: messages.Command) -> None:
        """Have it appended to each partition, sooner or later."""
        for outbox in self._outboxes:
            outbox.append(messages.encode(command))

    def _written(self, number: int) -> None:
        """A record is applied: the keys of all rows that it has written must be in order."""
        machine, store, keys = self.partitions[number].machine, self.partitions[number].store, self._keys[number]
        assert isinstance(store, Store)
        written = store.written.union(*(range(part.after + 1, part.upto + 1) for part in store.swept))
        concerned = store.keys | {keys.note(seq, store.by_seq(seq), machine.now) for seq in written}
        for key in concerned - {None}:
            keys.check(key, store, machine)

    def _delivered(self, number: int, delivery: messages.AnyDelivery, outgoing: list[Outgoing]) -> None:
        """A partition tells participants something; it must agree with what it was told."""
        if isinstance(delivery, messages.Start):
            known = len(self.journals.get(delivery.id, ()))
            found = [entry.step for entry in delivery.entries]
            assert delivery.more or found == list(range(known)), f"{delivery} lacks steps: it had taken {known}"
        elif isinstance(delivery, messages.Signal):
            children = set(self.partitions[number].store.edges(delivery.id, "", limits.CHILDREN_MAX))
            # A batch in force has asked it to cancel before it called those that this very record says it has.
            commands = [messages.decode_command(entry.value) for entry in outgoing if entry.destination >= 0]
            children -= {command.id for command in commands if isinstance(command, messages.Invoke)}
            assert not children, f"{delivery.id} is told to cancel before {children} has ended"

    def _applied(self, report: messages.Report) -> None:
        if isinstance(report, messages.Completed):
            assert report.id not in self.completed, f"{report.id} has ended twice"
            self.completed[report.id] = report
            self.on_completed(report)
        if not isinstance(report, messages.Steps):
            return
        journal = self.journals.setdefault(report.id, [])
        assert report.first <= len(journal), f"{report} leaves out steps; {len(journal)} were taken before"
        journal += [(report.attempt, step) for step in report.steps[len(journal) - report.first :]]

    # -- the server ------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """A new dispatcher takes over; it knows nothing of what was before."""
        self.core = Dispatch(self.registry)
        for feed in self._feeds:
            feed.clear()
        self.everywhere(messages.Serve(lanes=(), reclaim=True))
        self.core.registered(self.registry)
        self.settle_core()

    def register(self, deployment: str) -> None:
        """A deployment with the services; new invocations go to it."""
        register = messages.Register(deployment=deployment, services=tuple(service.spec() for service in self.services))
        self.registry = self.registry.with_registered(register, self.now)
        self.core.registered(self.registry)
        self.settle_core()

    def settle_core(self) -> None:
        """What the core wants appended is under way."""
        for partition, command in self.core.take_commands():
            if partition is None:
                self.everywhere(command)
            else:
                self._outboxes[partition].append(messages.encode(command))
        self.core.take_woken()

    def add_process(self, deployment: str, capacity: int, *, skew: int = 0) -> Process:
        """A participant process, whose clock is wrong by so much."""

        def make() -> StepwiseRunner:
            return StepwiseRunner(self.services, deployment, lambda: self.now + skew)

        process = Process(make, deployment, capacity)
        self.processes.append(process)
        return process

    def connect(self, process: Process) -> None:
        """It opens a session and listens."""
        self._sessions += 1
        session = self.core.open(f"session_{self._sessions}", process.deployment, process.capacity, self.now)
        self.core.stream_opened(session, self.now)
        process.opened(session.id)
        self.settle_core()

    def break_stream(self, process: Process) -> None:
        """Its stream breaks off, with all that was in it, and it opens another."""
        session = self.core.session(process.session or "")
        if session is not None:
            if self.rng.random() < 0.5:
                session.take(CHUNK)
            self.core.stream_closed(session, session.stream, self.now)
            self.core.stream_opened(session, self.now)
            process.new_stream()
            self.settle_core()

    def leave(self, process: Process) -> None:
        """It leaves in good order."""
        session = self.core.session(process.session or "")
        process.over()
        if session is not None:
            self.core.leave(session)
            self.settle_core()

    def serve_request(self, process: Process) -> None:
        """Its request arrives; as `Dispatcher.report`."""
        assert process.request is not None
        session = self.core.session(process.session or "")
        if session is None:
            process.over()
            return
        session.heard(self.now)
        answers: list[Answer] = []
        passed: list[messages.Report] = []
        for value in framing.unframed(process.request):
            try:
                report, record = reports.read(value, session.deployment, self.registry)
            except CallerError as error:
                raise AssertionError(f"a participant reports what it may not: {error}") from error
            attempt = self.core.has(session, report.id, report.attempt)
            if attempt is None:
                answers.append((409, None, "it is over"))
                continue
            answer = self.append(attempt.partition, record)
            assert answer.code in (200, 409), f"{report} is answered {answer}"
            answers.append((answer.code, answer.status, answer.detail))
            if answer.code == 200:
                self._applied(report)
            if answer.code == 409 or isinstance(report, reports.LETS_GO):
                passed.append(report)
        for report in passed:
            self.core.ended(report.id, report.attempt)
        self.settle_core()
        process.request, process.response = None, answers

    def report_late(self) -> None:
        """A report of an attempt that is over arrives, of whatever kind: it must change nothing."""
        rows = [row for row in self.rows() if row.attempt]
        if not rows:
            return
        row = self.rng.choice(rows)
        attempt = self.rng.randrange(row.attempt) if row.ties & HELD else row.attempt
        report = self._late(row, attempt)
        partition = self.partitions[self.number_of(row.id)]
        before = self._facts(partition)
        answer = self.append(partition.number, messages.encode(report))
        assert answer.code == 409, f"{report} of an attempt that is over is answered {answer}"
        # What a batch in force had done to the row comes to light, and with a free slot others may be delivered.
        if not partition.machine.pending and not before["ready"]:
            assert self._facts(partition) == before, f"{report} of an attempt that is over has changed something"

    def _late(self, row: Invocation, attempt: int) -> messages.Report:
        call = Step(kind=StepKind.CALL, call=Call(service="Plain", handler="play", input=b"[]"))
        taken = len(self.journals.get(row.id, ()))
        reports = (
            messages.Started(id=row.id, attempt=attempt, deployment="dp_late"),
            messages.Steps(id=row.id, attempt=attempt, first=self.rng.choice((0, taken)), steps=(call,)),
            messages.Suspended(id=row.id, attempt=attempt),
            messages.BackingOff(id=row.id, attempt=attempt, retry_at=self.now, failure="late", retry=1),
            messages.Paused(id=row.id, attempt=attempt, failure="late", retry=1),
            messages.Released(id=row.id, attempt=attempt, failure="late"),
            messages.Completed(id=row.id, attempt=attempt, outcome="success", output=b'"late"'),
        )
        return self.rng.choice(reports)

    @staticmethod
    def _facts(partition: Partition) -> dict[str, list[Any]]:
        """What is stored, by kind, but for how far the log is applied."""
        facts: dict[str, list[Any]] = {"ready": []}
        for kind, fact in partition.store.dump():  # type: ignore[attr-defined]
            facts.setdefault(kind, []).append(fact)
        del facts["state"]
        return facts

    # -- events ----------------------------------------------------------------------------------------------

    def possible(self) -> list[Callable[[], None]]:
        """What could happen next, but for the passing of time."""
        found: list[Callable[[], None]] = []
        for pair in self.links.waiting():
            found.append(lambda pair=pair: self.arrive(pair))  # type: ignore[misc]
        for number, partition in enumerate(self.partitions):
            if self._outboxes[number]:
                found.append(lambda number=number: self.append(number, self._outboxes[number].popleft()))  # type: ignore[misc]
            if self._feeds[number]:
                found.append(lambda number=number: self._read_delivery(number))  # type: ignore[misc]
            if ticks.wanted(partition.machine, self.now):
                found.append(lambda number=number: self.tick(number))  # type: ignore[misc]
        for process in self.processes:
            if not process.frozen:
                found += self._possible_of(process)
        return found

    def _possible_of(self, process: Process) -> list[Callable[[], None]]:
        if process.session is None:
            return [lambda: self.connect(process)] if self.registry.get(process.deployment) else []
        found: list[Callable[[], None]] = []
        session = self.core.session(process.session)
        if session is None:
            found.append(process.over)
        elif session.has_outgoing:
            found.append(lambda: process.receive(session.take(CHUNK)))
        if process.runner.ready:
            found.append(lambda: self._step(process))
        if process.wants_to_report:
            found.append(process.send)
        if process.request is not None:
            found.append(lambda: self.serve_request(process))
        if process.response is not None:
            found.append(process.answered)
        return found

    def _read_delivery(self, number: int) -> None:
        self.core.delivered(number, self._feeds[number].popleft())
        self.settle_core()

    def _step(self, process: Process) -> None:
        ready = process.runner.ready
        ready.pop(self.rng.randrange(len(ready))).step()

    def tick(self, number: int) -> None:
        """A tick of a random size."""
        tick = messages.Tick(tick=self.partitions[number].machine.state.tick + 1)
        if self.rng.random() < 0.5:
            tick.sweep, tick.single, tick.timers, tick.work = (self.rng.randrange(1, 20) for _ in range(4))
        self.append(number, messages.encode(tick))

    def pass_time(self, us: int) -> None:
        """Time passes: leases are renewed or run out, deadlines come."""
        self.now += us
        for process in self.processes:
            session = self.core.session(process.session or "")
            if session is not None and not process.frozen:
                session.heard(self.now)
            if not process.frozen:
                process.runner.poke_due()
        self.core.look_at_leases(self.now)
        self.settle_core()

    # -- to the end ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the partitions finish what is under way between them, while participants stand still."""
        for _ in range(ROUNDS_MAX):
            busy = False
            for pair in self.links.waiting():
                self.arrive(pair)
                busy = True
            for number, partition in enumerate(self.partitions):
                if ticks.wanted(partition.machine, self.now):
                    self.tick(number)
                    busy = True
            if not busy:
                return
        raise AssertionError("the partitions do not come to rest")

    def run_out(self, nudge: Callable[[], bool] = lambda: False) -> None:
        """Let everything come to its end; `nudge` does what only an operator can do, and says whether it did."""
        for process in self.processes:
            process.frozen = False
        for _ in range(ROUNDS_MAX):
            possible = self.possible()
            if possible:
                self.rng.choice(possible)()
            elif not nudge() and not self.wait():
                return
        raise AssertionError("the system does not come to rest")

    def wait(self) -> bool:
        """Let time pass until the next thing is due, but for the retention of what has ended; False when nothing is."""
        dues = [
            self.now + due - process.runner.now_us()
            for process in self.processes
            if (due := process.runner.next_due()) is not None
        ]
        dues += [row.timer_at for row in self.rows() if row.status != Status.COMPLETED and row.timer_at is not None]
        for partition in self.partitions:
            owing = partition.machine.owing.values()
            dues += [state.told_at + limits.PROGRESS_INTERVAL_US for state in owing]
        if self.core.sessions > len(self.processes):
            dues.append(self.now + limits.LEASE_US)  # of a process that is no more
        if not dues:
            return False
        self.pass_time(max(1, min(dues) - self.now))
        return True

    # -- what must hold --------------------------------------------------------------------------------------

    def may_be_told(self, called: str, outcome: str) -> bool:
        """Whether a call of this id can have come back so, otherwise than well."""
        ending = self.endings.get(self.attached.get(called, called))
        if ending is not None and outcome == OUTCOME_NAMES[ending]:
            return True
        if called in self.attached:  # not the caller's own: it may be cancelled, or the other purged, before it is told
            return outcome in ("cancelled", "failure")
        return ending is None and outcome == "cancelled"  # never begun, by a caller that is to cancel

    def rows(self) -> list[Invocation]:
        """All rows, as stored."""
        return [
            row
            for partition in self.partitions
            for seq in range(1, partition.machine.state.next_seq)
            if (row := partition.store.by_seq(seq)) is not None
        ]

    def row(self, id: str) -> Invocation | None:
        """One row, as stored."""
        return self.partitions[self.number_of(id)].store.by_id(id)

    def check_trees(self) -> None:
        """Nothing is under way between partitions: no attached invocation outlives a parent that was ended."""
        for row in self.rows():
            if row.status == Status.COMPLETED:
                continue
            if row.parent is not None and not row.detached:
                ending = self.endings.get(row.parent)
                assert ending != Outcome.KILLED, f"orphan: {row} outlives its parent, which was killed"
                asked = ending != Outcome.CANCELLED or row.cancel
                assert asked, f"orphan: {row} was not asked to cancel by its parent, which was"
            edges = self.partitions[self.number_of(row.id)].store.edges(row.id, "", limits.CHILDREN_MAX)
            requested = row.cancel == CancelState.REQUESTED
            assert edges or not requested, f"{row} waits for children to be cancelled and has none"
            for child in edges:
                # What is not its own is not asked to cancel, and not waited for then.
                called = self.row(child if requested else self.attached.get(child, child))
                live = called is not None and called.status != Status.COMPLETED
                assert live, f"{row} waits for {child}, which has ended or is not its own: {called}"
                assert not requested or called.cancel, f"{row} waits to cancel for a child that was not asked: {called}"

    def check_rest(self) -> None:
        """Everything has ended and nothing is left over."""
        left = [row for row in self.rows() if row.status != Status.COMPLETED]
        assert not left, f"{len(left)} never ended, as {left[0]}"
        assert self.core.held == self.core.waiting == 0
        for partition in self.partitions:
            machine = partition.machine
            assert not machine.pending
            assert not machine.state.works
            assert not machine.state.held
            for batch in machine.batches.values():
                assert not batch.tally.signalled, f"batch {batch.request} waits for handlers that have ended"
                for destination, count in batch.sent.items():
                    there = self.partitions[destination].machine.batches[batch.request]
                    assert there.received.get(partition.number, 0) == count, f"{batch.request} is not settled"
        for process in self.processes:
            assert not process.runner._held, "a participant still holds attempts"

    def steps_of(self, id: str, kind: StepKind) -> list[tuple[int, Step]]:
        """The steps of a kind that an invocation has taken."""
        return [(attempt, step) for attempt, step in self.journals.get(id, ()) if step.kind == kind]
