"""Consequences of the greatest size that limits allow, worked through by records that each stay within theirs.

In the SQLite store: sizes like these are what it is made for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.messages import (
    Act,
    Batch,
    Completed,
    Context,
    Invoke,
    Start,
    Steps,
    Suspended,
    Tick,
    decode_delivery,
)
from coordinator.model.statuses import Outcome, Status
from coordinator.partition import ticks
from coordinator.partition.state import DELIVERIES
from coordinator.stores.sqlite import SqliteStore
from tests.simulation.cluster import Links, Partition, Record

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
MANY = limits.CHILDREN_MAX
RUN = limits.RUN_RECORDS_MAX


class Bounded(Partition):
    """A partition that keeps no log and counts what its records touch and send."""

    def __init__(self, path: Path) -> None:
        super().__init__(0, 1, SqliteStore(path / "partition.sqlite"))
        self.links = Links()
        self.ticks = 0
        self.rows_most = self.sent_most = 0
        self.delivered: deque[messages.Delivery] = deque()

    def feed(self, commands: list[messages.Command]) -> None:
        self.append_all([messages.encode(command) for command in commands])

    def append_all(self, values: list[bytes]) -> None:
        """Records in runs of the usual size."""
        for start in range(0, len(values), RUN):
            self.store.begin()
            for value in values[start : start + RUN]:
                tick = self.machine.state.tick
                record = Record(self.machine.position + 1, NOW, value)
                self.machine.apply(record)
                self._count(is_tick=self.machine.state.tick > tick)
            self.machine.finish_run(record)
            self.store.commit()

    def _count(self, *, is_tick: bool) -> None:
        outgoing = self.machine.take_outgoing()
        self.links.send(0, outgoing)
        self.delivered += [decode_delivery(entry.value) for entry in outgoing if entry.destination == DELIVERIES]
        if is_tick:
            return
        self.rows_most = max(self.rows_most, len(self.machine.looked_up))
        self.sent_most = max(self.sent_most, len(outgoing))

    def settle(self) -> None:
        """Ticks and arrivals until nothing is left to do."""
        while True:
            count = len(self.links.under_way.get((0, 0), ()))
            self.append_all([self.links.next_of((0, 0)) for _ in range(count)])
            while ticks.wanted(self.machine, NOW):
                self.feed([Tick(tick=self.machine.state.tick + 1)])
                self.ticks += 1
            if not self.links.waiting():
                return

    def ended_as(self, outcome: Outcome) -> int:
        """How many invocations have ended so."""
        rows = (self.store.by_seq(seq) for seq in range(1, self.machine.state.next_seq))
        return sum(row is not None and row.status == Status.COMPLETED and row.outcome == outcome for row in rows)

    def started(self) -> Iterator[Start]:
        """The attempts that were delivered since the last call, in order."""
        while self.delivered:
            delivery = self.delivered.popleft()
            if isinstance(delivery, Start):
                yield delivery


def kill(request: str, filter: Filter) -> Batch:
    return Batch(request=request, action="kill", filter=filter, not_after=NOW)


def within_limits(partition: Bounded) -> bool:
    rows, sends = limits.ROWS_PER_RECORD_MAX, limits.ROWS_PER_RECORD_MAX * limits.OUTBOX_PER_ROW_MAX
    return partition.rows_most <= rows + 1 and partition.sent_most <= sends


def test_a_key_with_100_000_killed_waiters_is_handed_on_within_limits(tmp_path: Path) -> None:
    partition = Bounded(tmp_path)
    queue = [ids.derived_id("waiter", number, "a") for number in range(MANY + 2)]
    partition.feed([Invoke(id=id, service="Cart", handler="add", key="a", type=1) for id in queue])
    # All but the last one, in force while the scan has not come by: only the hand-on meets them.
    last = Invoke(id=ids.derived_id("last", 0, "a"), service="Cart", handler="add", key="a", type=1)
    partition.feed([kill("r1", Filter(service="Cart", status=("pending",))), last])
    partition.feed([Completed(id=queue[0], attempt=1, outcome="success")])
    assert partition.machine.state.works == 1
    partition.settle()
    assert partition.ended_as(Outcome.KILLED) == MANY + 1
    row = partition.store.by_id(last.id)
    assert row is not None
    assert (row.status, row.attempt) == (Status.READY, 1)
    assert partition.machine.batches["r1"].tally.ended == MANY + 1
    assert within_limits(partition)


CALL = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))


def with_children(tmp_path: Path) -> tuple[Bounded, str]:
    """A partition with an invocation that has called as many as one may, and its id."""
    partition = Bounded(tmp_path)
    parent = ids.derived_id("parent", 0, None)
    partition.feed([Invoke(id=parent, service="Greeter", handler="greet")])
    calls = (CALL,) * limits.STEPS_PER_REPORT_MAX
    partition.feed([Steps(id=parent, attempt=1, first=n, steps=calls) for n in range(0, MANY, len(calls))])
    partition.settle()
    return partition, parent


def test_a_parent_with_100_000_children_is_killed_within_limits(tmp_path: Path) -> None:
    partition, parent = with_children(tmp_path)
    assert partition.machine.state.next_seq == MANY + 2
    partition.ticks = 0
    partition.feed([kill("r1", Filter(ids=(parent,)))])
    partition.settle()
    assert partition.ended_as(Outcome.KILLED) == MANY + 1
    batch = partition.machine.batches["r1"]
    assert (batch.tally.ended, batch.propagated) == (1, MANY)
    assert batch.sent == batch.received
    assert MANY // limits.CHILDREN_PER_RECORD_MAX <= batch.sent[0] <= 2 * MANY // limits.CHILDREN_PER_RECORD_MAX
    assert partition.ticks >= MANY // limits.TICK_WORK_MAX
    assert not partition.store.edges(parent, "", 1)
    assert not partition.machine.state.held
    assert within_limits(partition)


def test_a_parent_is_told_the_results_of_100_000_children_in_pieces(tmp_path: Path) -> None:
    partition, parent = with_children(tmp_path)
    last = MANY - 1
    partition.feed([Suspended(id=parent, attempt=1, awaiting=(last,))])
    ended = 0
    again: Start | None = None
    while ended < MANY:
        starts = [start for start in partition.started() if start.attempt == 1 and start.id != parent]
        partition.feed([Completed(id=start.id, attempt=1, outcome="success", output=b"1") for start in starts])
        ended += len(starts)
        assert starts
        pieces = [delivery for delivery in partition.delivered if isinstance(delivery, Context)]
        assert not pieces, "nothing but the end of the last one wakes it"
        partition.settle()
        again = next((one for one in partition.delivered if isinstance(one, Start) and one.id == parent), again)
    assert again is not None
    assert again.more
    pieces = [delivery for delivery in partition.delivered if isinstance(delivery, Context)]
    entries = [*again.entries, *(entry for piece in pieces for entry in piece.entries)]
    assert [entry.step for entry in entries] == list(range(MANY))
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert within_limits(partition)


def chain(tmp_path: Path) -> tuple[Bounded, list[str]]:
    """A partition with invocations that have called each other as deep as may be, and their ids from the top."""
    partition = Bounded(tmp_path)
    top = ids.derived_id("top", 0, None)
    partition.feed([Invoke(id=top, service="Namer", handler="pick")])
    found: list[str] = []
    while len(found) <= limits.DEPTH_MAX:
        [start] = partition.started()
        found.append(start.id)
        partition.feed([Steps(id=start.id, attempt=1, first=0, steps=(CALL,))])
        if len(found) <= limits.DEPTH_MAX:
            partition.feed([Suspended(id=start.id, attempt=1, awaiting=(0,))])
        partition.settle()
    return partition, found


def test_a_tree_10_000_deep_is_cancelled_from_the_leaf_up_within_limits(tmp_path: Path) -> None:
    partition, tree = chain(tmp_path)
    partition.delivered.clear()
    partition.feed([Suspended(id=tree[-1], attempt=1), Act(action="cancel", id=tree[0])])
    partition.settle()
    surfaced = []
    while starts := list(partition.started()):
        [start] = starts  # one after the other
        assert start.cancelled
        surfaced.append(start.id)
        partition.feed([Completed(id=start.id, attempt=2, outcome="cancelled")])
        partition.settle()
    assert surfaced == tree[::-1]
    assert partition.ended_as(Outcome.CANCELLED) == len(tree) == limits.DEPTH_MAX + 1
    assert within_limits(partition)


def test_a_tree_10_000_deep_is_killed_within_limits(tmp_path: Path) -> None:
    partition, tree = chain(tmp_path)
    partition.feed([Act(action="kill", id=tree[0])])
    partition.settle()
    assert partition.ended_as(Outcome.KILLED) == len(tree)
    assert not partition.machine.state.held
    assert within_limits(partition)
