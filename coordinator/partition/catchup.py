"""Catch-up: folding the pending batches into one row.

This is what makes a batch take effect at its position although no tick has come by yet: for each pending
batch above the row's `caught_up_to`, in the order of the log, the filter is evaluated on what the batches
before it made of the row; a match has its effect, stamped with the batch's own time, and counts exactly once.
It works like a range tombstone in an LSM tree (compare RocksDB's DeleteRange): recorded at a position,
applied where a key is read.
"""

from typing import TYPE_CHECKING

from coordinator.model.effects import perform
from coordinator.model.invocation import Invocation
from coordinator.model.statuses import Action, Counter
from coordinator.partition import actions, restarts
from coordinator.partition.pending import Pending

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine


def catch_up(m: "Machine", row: Invocation) -> Invocation | None:
    """Fold all pending batches into the row; None when one of them purged it.

    Writes only when something matched, and then always: the stamp is what keeps a match from counting twice.
    """
    for pending in m.pending:
        if row.caught_up_to < pending.position and pending.matches(row):
            _take_effect(m, row, pending)
            if row.caught_up_to < pending.position:  # only a removed row is not stamped
                return None
    return row


def _take_effect(m: "Machine", row: Invocation, pending: Pending) -> None:
    batch = pending.state
    m.note(pending.account)
    if batch.marks:
        m.store.add_member(batch.position, row.seq)
        batch.members += 1
        row.caught_up_to = pending.position
        m.store.save(row)
        return
    tally = batch.tally
    effect = pending.stamping_effect(row)
    if effect is not None:
        perform(effect, row, pending.time, pending.position)
        m.store.save(row)
        counter = effect.counter
    elif pending.action is Action.RESTART_AS_NEW:
        counter = restarts.restart_match(m, row, pending.position, dry_run=batch.dry_run)
    else:
        counter = actions.act(
            m, row, pending.action, at=pending.time, position=pending.position, deployment=batch.deployment
        )
    if counter is Counter.FAILED and not batch.dry_run:
        m.store.add_member(pending.position, row.seq)  # so that a retry finds it
    tally.matched += 1
    setattr(tally, counter, getattr(tally, counter) + 1)
