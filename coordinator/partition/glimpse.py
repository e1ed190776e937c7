"""Looking at a row without touching it: what operators are shown while batches are pending.

The same effects in the same order as `catchup`, on a copy; nothing is counted, stamped in the store or sent.
"""

import copy
from collections.abc import Sequence

from coordinator.model.effects import perform
from coordinator.model.invocation import HELD, WOKEN, Invocation
from coordinator.model.statuses import Status
from coordinator.partition.actions import row_effect
from coordinator.partition.pending import Pending

_PAUSED = int(Status.PAUSED)


def as_seen(row: Invocation, pending: Sequence[Pending]) -> Invocation | None:
    """The row as these batches, in the order of their positions, have left it; None when one purged it.

    Returns `row` itself when none of them matches it.
    """
    seen = row
    for batch in pending:
        if seen.caught_up_to >= batch.position or not batch.matches(seen):
            continue
        if seen is row:
            seen = copy.copy(row)
        effect = batch.stamping_effect(seen)
        if batch.state.marks:
            seen.caught_up_to = batch.position
        elif effect is not None:
            perform(effect, seen, batch.time, batch.position)
        elif row_effect(seen, batch.action, batch.time, batch.position, batch.state.deployment) is None:
            return None
        if seen.status == _PAUSED:
            seen.ties &= ~(HELD | WOKEN)  # its attempt is taken back, which later batches must find so
    return seen
