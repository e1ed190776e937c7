"""Every row, at every position, is what it would be had each batch been applied to all rows at its position."""

from __future__ import annotations

import pytest

from tests.simulation import settings
from tests.simulation.cluster import bounded
from tests.simulation.simulator import Simulator
from tests.simulation.watched import WatchedPartition

GROUPS = 20
LOGS = 100_000 if settings.LONG else 2_000


def check(seed: str) -> None:
    simulator = Simulator(seed, WatchedPartition)
    with bounded(simulator.bounds):
        try:
            simulator.run()
            for partition in simulator.partitions:
                partition.check_all()
            simulator.settle()
            simulator.check_trees(set().union(*(partition.used_again for partition in simulator.partitions)))
            simulator.drain()
            for partition in simulator.partitions:
                partition.check_all()
            simulator.check_rest(set().union(*(partition.sent_before for partition in simulator.partitions)))
        except BaseException as error:
            error.add_note(f"seed {seed!r}; after {[len(partition.log) for partition in simulator.partitions]} records")
            raise


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_rows_are_what_eager_batches_would_have_made_of_them(group: int) -> None:
    for number in range(group, LOGS, GROUPS):
        check(f"{settings.SEED}:{number}")
