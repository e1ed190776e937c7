"""A world around the dispatcher's core: partitions, participants, and everything that can go wrong between them.

Partitions here know just what the real ones know of deliveries: which attempt is the newest, whether it is held, and
which lanes are served. All that goes between them and the core takes its time, is read in pieces, and what
partitions deliver may come again from some point on, as it does after an owner's crash.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from coordinator.model import framing, limits, messages
from coordinator.model.ids import invocation_id
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.requests.deployments import Registry
from coordinator.runtime.dispatch.core import Dispatch
from coordinator.runtime.dispatch.sessions import Session
from coordinator.runtime.errors import BusyError

PARTITIONS = 2
SERVICES = ("A", "B", "C")
DEPLOYMENTS = ("dp_1", "dp_2", "dp_3")
SECOND = limits.SECOND_US


@dataclass
class Invocation:
    """A row."""

    id: str
    service: str
    pinned: str | None = None
    attempt: int = 0
    held: bool = False
    done: bool = False

    @property
    def lane(self) -> str:
        return self.service if self.pinned is None else f"@{self.pinned}"


@dataclass
class Partition:
    """One partition: its rows, what it is told, and what it has delivered."""

    number: int
    rows: dict[str, Invocation] = field(default_factory=dict)
    served: frozenset[str] = frozenset()
    commands: deque[tuple[messages.Command, Session | None]] = field(default_factory=deque)
    deliveries: list[bytes] = field(default_factory=list)
    read: int = 0

    def deliver(self, rng: random.Random) -> None:
        """Deliver what is ready in a lane that is served."""
        for row in self.rows.values():
            if not (row.held or row.done) and row.lane in self.served:
                row.held, row.attempt = True, row.attempt + 1
                contexts = rng.choice((0, 0, 0, 1, 2))
                self._put(
                    messages.Start(
                        id=row.id,
                        attempt=row.attempt,
                        service=row.service,
                        handler="h",
                        deployment=row.pinned,
                        more=contexts > 0,
                    )
                )
                for left in reversed(range(contexts)):
                    if rng.random() < 0.3:
                        self._put(messages.Signal(id=row.id, attempt=row.attempt))
                    self._put(messages.Context(id=row.id, attempt=row.attempt, last=left == 0))

    def tell(self, row: Invocation, kind: type[messages.Signal] | type[messages.Drop]) -> None:
        """Say something of an attempt that is held."""
        if row.held:
            self._put(kind(id=row.id, attempt=row.attempt))
            if kind is messages.Drop:
                row.held = False

    def apply(self, command: messages.Command) -> int:
        """The answer's code."""
        if isinstance(command, messages.Serve):
            self.served = frozenset(command.lanes)
            return 200
        assert isinstance(command, messages.Report)
        row = self.rows[command.id]
        if not row.held or row.attempt != command.attempt:
            return 409
        if isinstance(command, messages.Started):
            row.pinned = row.pinned or command.deployment
        else:
            row.held = False
            row.done = isinstance(command, messages.Completed)
        return 200

    def _put(self, message: messages.Delivery) -> None:
        self.deliveries.append(messages.encode(message))


@dataclass
class Participant:
    """The other end of a session, and whether it listens."""

    session: Session
    listening: int | None = None
    has: dict[str, int] = field(default_factory=dict)
    """Invocation → the attempt that it runs."""


class World:
    """All of it, with the checks that hold at every moment."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0
        self.registry = Registry()
        self.core = Dispatch(self.registry)
        self.partitions = [Partition(number) for number in range(PARTITIONS)]
        self.participants: list[Participant] = []
        self.got: dict[tuple[str, int], str] = {}
        """Attempt → the session that it went out to."""
        self.dropped: set[tuple[str, int]] = set()
        """Attempts of which the core has read the drop."""
        self._sessions = 0
        self.register("dp_1", *SERVICES)

    # -- what may happen -------------------------------------------------------------------------------------

    def register(self, deployment: str, *services: str) -> None:
        specs = tuple(ServiceSpec(name=name, handlers=(Handler(name="h"),)) for name in services)
        self.registry = self.registry.with_registered(Register(deployment=deployment, services=specs), self.now)
        self.core.registered(self.registry)

    def open(self, deployment: str) -> Participant:
        self._sessions += 1
        session = self.core.open(f"s{self._sessions}", deployment, self.rng.randint(1, 4), self.now)
        participant = Participant(session)
        self.participants.append(participant)
        return participant

    def create(self) -> None:
        partition = self.rng.choice(self.partitions)
        id = invocation_id((partition.number << 63) + self.rng.getrandbits(62), self.rng.getrandbits(128))
        pinned = self.rng.choice(DEPLOYMENTS) if self.rng.random() < 0.2 else None
        partition.rows[id] = Invocation(id, self.rng.choice(SERVICES), pinned)

    def read(self, partition: Partition, count: int) -> None:
        """The core reads some deliveries."""
        for value in partition.deliveries[partition.read : partition.read + count]:
            self.core.delivered(partition.number, value)
            message = messages.decode_delivery(value)
            if isinstance(message, messages.Drop):
                self.dropped.add((message.id, message.attempt))
        partition.read = min(len(partition.deliveries), partition.read + count)

    def apply(self, partition: Partition, count: int) -> None:
        """A partition applies some commands; answers to reports reach the core."""
        for _ in range(min(count, len(partition.commands))):
            command, session = partition.commands.popleft()
            code = partition.apply(command)
            if session is None:
                continue
            assert isinstance(command, messages.Report)
            if code == 409 or not isinstance(command, messages.Started):
                self.core.ended(command.id, command.attempt)

    def take(self, participant: Participant) -> None:
        """What waits for a participant goes out; it starts, and drops, and reports nothing yet."""
        if participant.listening != participant.session.stream or not participant.session.streaming:
            return
        for value in framing.unframed(participant.session.take(self.rng.randint(1, 2_000))):
            message = messages.decode_delivery(value)
            attempt = (message.id, message.attempt)
            if isinstance(message, messages.Start):
                assert attempt not in self.dropped, "it goes out after its drop was known"
                assert self.got.setdefault(attempt, participant.session.id) == participant.session.id
                participant.has[message.id] = message.attempt
            elif isinstance(message, messages.Drop):
                if participant.has.get(message.id) == message.attempt:
                    del participant.has[message.id]
            else:
                assert self.got[attempt] == participant.session.id, "news of an attempt that it never got"

    def report(self, participant: Participant, kind: type[messages.Report], **fields: object) -> None:
        """A participant says something of one that it has, if the core still thinks so too."""
        if not participant.has:
            return
        id, number = self.rng.choice(list(participant.has.items()))
        if kind is not messages.Started:
            del participant.has[id]
        if self.core.has(participant.session, id, number):
            participant.session.heard(self.now)
            report = kind(id=id, attempt=number, **fields)
            self._partition_of(id).commands.append((report, participant.session))

    def step(self) -> None:
        """Something happens."""
        rng = self.rng
        choice = rng.random()
        participant = rng.choice(self.participants) if self.participants else None
        partition = rng.choice(self.partitions)
        if choice < 0.15:
            self.create()
        elif choice < 0.3:
            partition.deliver(rng)
        elif choice < 0.45:
            self.read(partition, rng.randint(1, 8))
        elif choice < 0.6:
            self.apply(partition, rng.randint(1, 8))
        elif choice < 0.63:
            self.now += rng.choice((SECOND // 10, SECOND, 6 * SECOND))
            self.core.look_at_leases(self.now)
        elif choice < 0.66:
            held = [row for row in partition.rows.values() if row.held]
            if held:
                partition.tell(rng.choice(held), rng.choice((messages.Signal, messages.Drop)))
        elif choice < 0.67:
            partition.read = rng.randint(max(0, partition.read - 10), partition.read)
        elif choice < 0.69:
            if len(self.participants) < 8:
                self.open(rng.choice([one.id for one in self.registry.deployments]))
        elif choice < 0.7:
            known = len(self.registry.deployments)
            if known < len(DEPLOYMENTS):
                self.register(DEPLOYMENTS[known], *rng.sample(SERVICES, rng.randint(1, 3)))
        elif participant is not None:
            self._participate(participant)
        self.settle()
        self.check()

    def _participate(self, participant: Participant) -> None:
        rng, session = self.rng, participant.session
        choice = rng.random()
        if choice < 0.02:
            self.core.leave(session) if self.core.session(session.id) is session else None
        elif choice < 0.04 and session.streaming:
            self.core.stream_closed(session, session.stream, self.now)
        elif choice < 0.15:
            if self.core.session(session.id) is session:
                participant.listening = self.core.stream_opened(session, self.now)
        elif choice < 0.5:
            self.take(participant)
        elif choice < 0.6:
            self.report(participant, messages.Started, deployment=session.deployment)
        elif choice < 0.8:
            self.report(participant, messages.Completed, outcome="success")
        elif choice < 0.9:
            self.report(participant, messages.Released)
        elif self.core.session(session.id) is session:
            session.heard(self.now)

    def settle(self) -> None:
        """What the core wants appended is, and who has no session any more is gone."""
        for partition, command in self.core.take_commands():
            for one in self.partitions if partition is None else [self.partitions[partition]]:
                one.commands.append((command, None))
        self.participants = [one for one in self.participants if self.core.session(one.session.id) is one.session]
        self.core.take_woken()

    def check(self) -> None:
        """What holds at every moment."""
        assert self.core.waiting >= 0
        having: set[str] = set()
        for participant in self.participants:
            session = participant.session
            assert len(session.attempts) <= session.capacity
            assert not having & session.attempts.keys(), "two sessions have one invocation"
            having |= session.attempts.keys()

    # -- the end ---------------------------------------------------------------------------------------------

    def run_out(self) -> None:
        """Nothing goes wrong any more, and every deployment has a participant: all must come to its end."""
        for number in range(len(self.registry.deployments), len(DEPLOYMENTS)):
            self.register(DEPLOYMENTS[number], "A")
        for deployment in DEPLOYMENTS:
            try:
                participant = self.open(deployment)
            except BusyError:
                continue
            participant.listening = self.core.stream_opened(participant.session, self.now)
        for _ in range(2_000):
            self.now += SECOND
            for participant in self.participants:
                if participant.session.streaming:
                    participant.session.heard(self.now)
            self.core.look_at_leases(self.now)
            for partition in self.partitions:
                self.apply(partition, 1_000)
                partition.deliver(self.rng)
                self.read(partition, 1_000)
            self.settle()
            for participant in list(self.participants):
                self.take(participant)
                for _ in range(len(participant.has)):
                    self.report(participant, messages.Completed, outcome="success")
            self.check()
            if all(row.done for partition in self.partitions for row in partition.rows.values()):
                break
        for partition in self.partitions:
            self.apply(partition, 1_000)
        self.settle()

    def _partition_of(self, id: str) -> Partition:
        return next(partition for partition in self.partitions if id in partition.rows)
