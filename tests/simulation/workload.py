"""Random commands of producers and operators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.statuses import ACTIONS, NAMES
from tests.simulation import names
from tests.simulation.names import DAY, SECOND

STATUSES = tuple(NAMES.values())
_BEFORE = ("kill", "cancel", "restart-as-new")
_AFTERWARDS = ("count", "purge", "restart-as-new")
"""Actions that make, and that act on, what a filter means by the batch that killed it or that it failed of."""
_OF_A_BATCH = ("killed_by", "failed_of")
OUTCOMES = ("success", "failure", "cancelled", "killed")
Routed = tuple[int, messages.Command | bytes]


class Workload:
    """Draws commands. It remembers the ids and requests that it named, to name them again."""

    def __init__(self, rng: random.Random, partitions: int) -> None:
        self.rng = rng
        self.partitions = partitions
        self.ids: list[str] = [names.new_id(rng, None)]
        self.imported: list[str] = []
        self.requests: list[str] = []
        self.batches: list[tuple[int, str]] = []
        """Partition and request id of those that others may name."""
        self.times: list[int] = []
        self.kinds: dict[Callable[[int], Routed], float] = {
            self.invoke: 14, self.import_row: 3, self.import_end: 0.7, self.act: 4, self.batch: 6,
            self.control: 2.5, self.commit: 1.5, self.level: 0.1, self.garbage: 0.3, self.serve: 0.4,
        }  # fmt: skip
        for kind in self.kinds:  # runs differ in what they are full of
            self.kinds[kind] *= rng.choice((0.1, 0.5, 1, 1, 2, 4))

    def draw(self, now: int) -> Routed:
        kind = self.rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        return kind(now)

    def known_id(self) -> str:
        return self.rng.choice(self.ids[-40:])

    def route(self, id: str) -> int:
        if self.rng.random() < 0.01:
            return self.rng.randrange(self.partitions)
        return ids.partition_of(id, self.partitions)

    def created(self, ids_: list[str]) -> None:
        self.ids += ids_

    # -- kinds -----------------------------------------------------------------------------------------------

    def invoke(self, now: int) -> Routed:
        rng = self.rng
        target = names.target(rng)
        id = names.new_id(rng, target["key"])
        self.ids.append(id)
        self.times.append(now)
        return self.route(id), messages.Invoke(
            id=id,
            **target,
            input=rng.choice((None, b"in")),
            headers=rng.choice(({}, {"a": "b"})),
            due_at=rng.choice((None, None, None, now - SECOND, now, now + SECOND, now + 60 * SECOND)),
            idempotency_key=rng.choice((None, None, "once", "twice")),
            retention=rng.choice(names.RETENTIONS),
            deployment=rng.choice((None, *names.DEPLOYMENTS)),
        )

    def import_row(self, now: int) -> Routed:
        rng = self.rng
        target = names.target(rng)
        del target["shared"]
        # Nobody invokes under an id that imported children name as their parent's: those come with the import.
        id = names.imported_id(rng, target["key"]) if rng.random() < 0.8 else names.new_id(rng, target["key"])
        parent = rng.choice((None, None, *self.imported[-6:]))
        self.ids.append(id)
        if rng.random() < 0.8:
            self.imported.append(names.imported_id(rng, rng.choice((None, *names.KEYS))))
        created = now - rng.choice((0, SECOND, DAY))
        self.times.append(created)
        return self.route(id), messages.Import(
            id=id,
            **target,
            status=rng.choice((*STATUSES, "pending", "pending", "running", "suspended")),
            outcome=rng.choice((*OUTCOMES, *OUTCOMES, None)),
            created_at=created,
            modified_at=rng.choice((created, now)),
            due_at=rng.choice((None, now, now + SECOND)),
            inboxed_at=rng.choice((None, created, now)),
            completed_at=rng.choice((None, now)),
            idempotency_key=rng.choice((None, None, "once")),
            retention=rng.choice(names.RETENTIONS),
            deployment=rng.choice((None, *names.DEPLOYMENTS)),
            retry=rng.randrange(3),
            parent=parent if parent != id else None,
            detached=rng.random() < 0.2,
        )

    def import_end(self, now: int) -> Routed:
        return self.anywhere(), messages.ImportEnd()

    def act(self, now: int) -> Routed:
        rng = self.rng
        id = self.known_id()
        action = rng.choice((*ACTIONS, "resume", "cancel", "pause")) if rng.random() < 0.98 else "bogus"
        return self.route(id), messages.Act(action=action, id=id, deployment=rng.choice((None, *names.DEPLOYMENTS)))

    def batch(self, now: int) -> Routed:
        rng = self.rng
        action = rng.choice((*ACTIONS, "kill", "cancel", "pause", "purge")) if rng.random() < 0.99 else "bogus"
        grace = rng.choice((None, 0, SECOND, 20 * SECOND)) if action == "cancel" or rng.random() < 0.01 else None
        partition, filter = self.anywhere(), self.filter()
        if self.batches and action in _AFTERWARDS and rng.random() < 0.3:
            partition, filter = self._what_became_of_a_batch()
        request = self.request(0.9)
        if action in _BEFORE:
            self.batches.append((partition, request))
        return partition, messages.Batch(
            request=request,
            action=action,
            filter=filter,
            grace=grace,
            not_after=now + rng.choice((limits.NOT_AFTER_US, limits.NOT_AFTER_US, limits.NOT_AFTER_US, 0, -1)),
            guarded=rng.random() < 0.25,
            dry_run=rng.random() < 0.1,
            deployment=rng.choice((None, None, "dp3")),
            revision=rng.choice((0, 0, 1, 2)),
            paused=rng.random() < 0.15,
            rate=rng.choice((None, None, None, None, 0, 1, 5, 1_000_000)),
        )

    def request(self, new: float) -> str:
        rng = self.rng
        if rng.random() < 0.005:
            return rng.choice(("", "x" * (limits.NAME_CHARS_MAX + 1)))
        if not self.requests or rng.random() < new:
            self.requests.append(f"r{len(self.requests)}")
        return rng.choice(self.requests[-8:]) if rng.random() > new else self.requests[-1]

    def control(self, now: int) -> Routed:
        rng = self.rng
        return self.anywhere(), messages.Control(
            request=self.request(0.1),
            revision=rng.choice((0, 1, 2, 3, 4, 5, 9)),
            paused=rng.random() < 0.3,
            rate=rng.choice((None, None, 0, 1, 100)),
            aborted=rng.random() < 0.4,
        )

    def commit(self, now: int) -> Routed:
        late = self.rng.random() < 0.05
        return self.anywhere(), messages.Commit(request=self.request(0.02), not_after=now - late)

    def level(self, now: int) -> Routed:
        return self.anywhere(), messages.Level(level=self.rng.choice((0, 1, 1)))

    def serve(self, now: int) -> Routed:
        return self.anywhere(), messages.Serve(lanes=names.lanes(self.rng), reclaim=self.rng.random() < 0.5)

    def garbage(self, now: int) -> Routed:
        rng = self.rng
        whole = messages.encode(messages.Act(action="kill", id=self.known_id()))
        invoke = messages.Invoke(id=self.known_id(), service="Greeter", handler="greet")
        invoke.v = 2
        return self.anywhere(), rng.choice(
            (
                b"", b"\xc1", b"\x93\x01\x02\x03", whole[:-3], whole + b"\x00", rng.randbytes(20),
                messages.encode(invoke), messages.encode(messages.Adopt(parent="p", child="c")),
                messages.encode(messages.Started(id="x", attempt=1)).replace(b"\x0a", b"\x7e", 1),
                messages.encode(messages.Invoke(id="x", service="Greeter", handler="greet")),
                messages.encode(messages.Invoke(id=self.known_id(), service="", handler="greet")),
                messages.encode(messages.Tick(tick=rng.randrange(3))),
            )
        )  # fmt: skip

    def anywhere(self) -> int:
        return self.rng.randrange(self.partitions)

    # -- filters ---------------------------------------------------------------------------------------------

    def filter(self) -> Filter:
        rng = self.rng
        fields: dict[str, Any] = {}
        shape = rng.randrange(10)
        if shape < 3:
            fields["all"] = True
        elif shape < 5:
            fields["ids"] = tuple(self.known_id() for _ in range(rng.randrange(1, 8)))
        elif shape < 6:
            fields["target"] = self.target()
        elif shape < 8:
            fields["service"] = rng.choice(names.SERVICES)
        elif shape < 9:
            of = rng.choice(names.TARGETS)
            fields["service"] = of.service
            if of.keys:
                fields["key"] = rng.choice(of.keys)
        else:
            self._narrow(fields)
        if rng.random() < 0.4:
            fields["status"] = tuple(rng.sample(STATUSES, rng.choice((1, 1, 2, 3, 4))))
        if rng.random() < 0.15:
            self._narrow(fields)
        if rng.random() < 0.15:
            self._of_a_batch(fields)
        return Filter(**fields)

    def _narrow(self, fields: dict[str, Any]) -> None:
        """One more condition, of those that rows seldom meet together."""
        rng = self.rng
        name = rng.choice(
            ("handler", "key", "deployment", "created_before", "created_after", "modified_before", "modified_after")
        )
        if name == "handler":
            fields[name] = rng.choice(names.HANDLERS)
        elif name == "key":
            fields[name] = rng.choice(names.KEYS)
        elif name == "deployment":
            fields[name] = rng.choice(names.DEPLOYMENTS)
        elif self.times:
            fields[name] = rng.choice(self.times) + rng.choice((-1, 0, 0, 1))
        if rng.random() < 0.02:
            fields["status"] = ("bogus",)

    def _of_a_batch(self, fields: dict[str, Any]) -> None:
        """Only what another batch has killed, or counted as failed."""
        fields[self.rng.choice(_OF_A_BATCH)] = self.rng.choice((*self.requests[-6:], "nobody's"))

    def _what_became_of_a_batch(self) -> tuple[int, Filter]:
        """All of it, on the partition where it was in force."""
        partition, request = self.rng.choice(self.batches[-6:])
        return partition, Filter(**{self.rng.choice(_OF_A_BATCH): request})

    def target(self) -> str:
        of = self.rng.choice(names.TARGETS)
        key = self.rng.choice(of.keys or names.KEYS)
        return self.rng.choice(
            (of.service, f"{of.service}/{of.handler}", f"{of.service}/{key}", f"{of.service}/{key}/{of.handler}")
        )
