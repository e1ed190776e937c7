"""Consequences of the greatest size that limits allow, worked through by records that each stay within theirs."""

from __future__ import annotations

from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.messages import Batch, Completed, Invoke, Steps, Tick
from coordinator.model.statuses import Outcome, Status
from coordinator.partition import ticks
from tests.simulation.cluster import Links, Partition, Record

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
MANY = limits.CHILDREN_MAX
RUN = limits.RUN_RECORDS_MAX


class Bounded(Partition):
    """A partition that keeps no log and counts what its records touch and send."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.links = Links()
        self.ticks = 0
        self.rows_most = self.sent_most = 0

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


def kill(request: str, filter: Filter) -> Batch:
    return Batch(request=request, action="kill", filter=filter, not_after=NOW)


def within_limits(partition: Bounded) -> bool:
    rows, sends = limits.ROWS_PER_RECORD_MAX, limits.ROWS_PER_RECORD_MAX * limits.OUTBOX_PER_ROW_MAX
    return partition.rows_most <= rows + 1 and partition.sent_most <= sends


def test_a_key_with_100_000_killed_waiters_is_handed_on_within_limits() -> None:
    partition = Bounded()
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


def test_a_parent_with_100_000_children_is_killed_within_limits() -> None:
    partition = Bounded()
    parent = ids.derived_id("parent", 0, None)
    partition.feed([Invoke(id=parent, service="Greeter", handler="greet")])
    call = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))
    calls = (call,) * limits.STEPS_PER_REPORT_MAX
    partition.feed([Steps(id=parent, attempt=1, first=n, steps=calls) for n in range(0, MANY, len(calls))])
    partition.settle()
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
    assert partition.machine.state.held == 0
    assert within_limits(partition)
