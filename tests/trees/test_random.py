"""Random trees of real handlers: no orphan, no lost answer, nobody waiting forever, no durable step done twice.

A failure names the seed of its tree: `COORDINATOR_TEST_SEED` and the tree's number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec
import pytest
import structlog

from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.invocation import CHILDREN
from coordinator.model.journal import Call
from coordinator.model.statuses import Status
from coordinator.participant.services import AnyService
from tests.simulation import settings
from tests.simulation.cluster import Bounds, bounded
from tests.trees import programs
from tests.trees.world import SECOND, World

TREES = 50_000 if settings.LONG else 2_000
GROUPS = 20
ACTIONS = (*("cancel",) * 5, *("kill",) * 3, *("purge",) * 2, "pause", "resume")
COMBINED = (
    ("kill", "purge"),
    ("cancel", "kill"),
    ("cancel", "kill", "purge"),
    ("cancel", "pause"),
    ("pause", "cancel"),
)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Handlers that fail say so, and these do nothing else."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


class Tree:
    """One drawn system, and what is done to it."""

    def __init__(self, seed: str) -> None:
        self.rng = rng = random.Random(seed)
        self.bounds = Bounds(
            rows_per_record=rng.choice((limits.ROWS_PER_RECORD_MAX, 4, 2)),
            deliveries=rng.choice((limits.DELIVERIES_MAX, 4, 2)),
        )
        self.ledger = programs.Ledger(rng)
        declared: list[AnyService] = programs.services(self.ledger, rng.choice((None, None, "0s", "1s")))
        self.world = World(rng, declared, partitions=rng.choice((1, 2, 3, 4)))
        self.world.on_completed = self._completed
        self.ledger.may_be_told = self.world.may_be_told
        self.author = programs.Author(rng, rng.randrange(2, 80))
        self.batches = 0
        self.world.register("dp_1")
        for _ in range(rng.choice((1, 1, 2, 3))):
            self._add_process("dp_1")

    def _add_process(self, deployment: str) -> None:
        skew = self.rng.choice((0, 0, 0, SECOND // 4, -SECOND // 4))
        self.world.add_process(deployment, self.rng.choice((1, 2, 5, 100)), skew=skew)

    def run(self) -> None:
        """From the first invocation until everything is at rest."""
        rng, world = self.rng, self.world
        for number in range(rng.choice((1, 1, 2, 4))):
            self._start(number)
        troubles, weights = zip(*self._troubles().items(), strict=True)
        trouble = rng.choice((0.003, 0.01, 0.03, 0.1))
        for _ in range(rng.randrange(50, 1_000)):
            possible = world.possible()
            if rng.random() < (trouble if possible else 0.3):
                rng.choices(troubles, weights)[0]()
            elif self.ledger.parked and rng.random() < 0.1:
                self.ledger.let_go()
            elif rng.random() < 0.03:
                world.pass_time(rng.choice((1, 1000, SECOND // 20, SECOND // 3, SECOND, 11 * SECOND)))
            elif possible:
                rng.choice(possible)()
            elif not self._nudge() and not world.wait():
                break
        self._look()
        world.run_out(self._nudge)
        world.check_trees()
        world.check_rest()

        assert not self.ledger.wrong, self.ledger.wrong[0]

    def _completed(self, report: messages.Completed) -> None:
        if report.outcome == "success":
            self.ledger.outputs[report.id] = msgspec.json.decode(report.output or b"null")

    def _start(self, number: int) -> None:
        target, once, held = self.author.target(-1)
        service, *between, handler = target.split("/")
        key = between[0] if between else None
        call = Call(service=service, handler=handler, key=key, idempotency_key=once)
        terms = self.world.registry.terms(service, handler, key, once)
        self.world.command(
            messages.Invoke(
                id=ids.child_id("tree", number, call),
                service=service,
                handler=handler,
                key=key,
                type=int(terms.type),
                shared=terms.shared,
                idempotency_key=once,
                input=msgspec.json.encode(self.author.program(held, 0)),
            )
        )

    def _troubles(self) -> dict[Callable[[], None], int]:
        """What happens to it, and how often."""
        return {
            self._act: 8,
            self._batch: 4,
            self._vanish: 6,
            self._restart: 2,
            self._redeploy: 1,
            self._look: 2,
            self.world.arrive_again: 2,
            self.world.report_late: 4,
        }

    # -- what happens to it ----------------------------------------------------------------------------------

    def _act(self) -> None:
        """Somebody ends one, mostly one that others depend on; or does it in several steps."""
        rng, rows = self.rng, self.world.rows()
        if not rows:
            return
        parents = [row for row in rows if row.ties & CHILDREN]
        shared = [row for row in rows if row.id in self.world.attached.values()]
        id = rng.choice(rng.choice((parents, parents, shared, rows)) or rows).id
        for action in rng.choice(COMBINED) if rng.random() < 0.5 else (rng.choice(ACTIONS),):
            self.world.command(messages.Act(action=action, id=id))

    def _batch(self) -> None:
        self.batches += 1
        action = self.rng.choice(ACTIONS)
        filter = self.rng.choice(
            (
                Filter(all=True),
                Filter(service="Plain"),
                Filter(service="Thing"),
                Filter(service="Flow"),
                Filter(status=("suspended",)),
                Filter(status=("running", "ready")),
            )
        )
        not_after = self.world.now + limits.NOT_AFTER_US
        batch = messages.Batch(request=f"b{self.batches}", action=action, filter=filter, not_after=not_after)
        self.world.everywhere(batch)

    def _vanish(self) -> None:
        rng, world = self.rng, self.world
        process = rng.choice(world.processes)
        kind = rng.randrange(6)
        if kind == 0:
            process.destroy()
        elif kind == 1:
            process.frozen = not process.frozen
        elif kind == 2:
            world.break_stream(process)
        elif kind == 3:
            process.lose_request()
        elif kind == 4:
            world.leave(process)
        elif process.request is not None:
            world.serve_request(process)  # it is applied, and the answer is lost
            process.lose_request()

    def _restart(self) -> None:
        if self.rng.random() < 0.5:
            self.rng.choice(self.world.partitions).restart()
        else:
            self.world.start_server()

    def _redeploy(self) -> None:
        if self.world.registry.get("dp_2") is None:
            self.world.register("dp_2")
            self._add_process("dp_2")

    def _look(self) -> None:
        self.world.settle()
        self.world.check_trees()

    def _nudge(self) -> bool:
        """What only an operator or the outside can get to go on."""
        if self.ledger.parked:
            self.ledger.let_go()
            return True
        for row in self.world.rows():
            if row.status == Status.PAUSED:
                self.world.command(messages.Act(action="resume", id=row.id))
                return True
        return False


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_random_trees_come_to_their_end(group: int) -> None:
    for number in range(group, TREES, GROUPS):
        seed = f"{settings.SEED}:tree:{number}"
        tree = Tree(seed)
        with bounded(tree.bounds):
            try:
                tree.run()
            except BaseException as error:
                error.add_note(f"seed {seed!r}; after {tree.world.records} records")
                raise
