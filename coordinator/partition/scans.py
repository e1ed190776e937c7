"""Scans: working a pending batch's candidates off, a slice a tick.

Candidates are chosen by columns that never change and visited in creation order below the batch's position,
so no row can slip past the cursor. There are two ways to do a slice:

*Set-based*, while no earlier batch is pending and no rate is set: one bounded statement has the effect on
all rows of the slice that stand alone; those with consequences for others are caught up one by one.

*Single*, otherwise: every row that may still owe something to any pending batch is caught up with all of
them in order, because a later batch may only match what an earlier one makes of the row.
"""

from typing import TYPE_CHECKING

from coordinator.model.filters import EMPTY
from coordinator.model.invocation import Invocation
from coordinator.model.statuses import Status
from coordinator.partition import batches, graces, lifecycle
from coordinator.partition.pending import Pending
from coordinator.partition.state import BatchState, Phase
from coordinator.stores.port import Condition, Slice, Timer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_COMPLETED = int(Status.COMPLETED)


def scan(m: "Machine", sweep_max: int, single_max: int) -> bool:
    """Give the pending batches their turns until this tick's quotas are used up; whether they are."""
    sweep_left, m.rows_left = sweep_max, single_max
    turn = m.state.turn
    for pending in sorted(m.pending, key=lambda pending: (pending.position <= turn, pending.position)):
        if sweep_left <= 0 or m.rows_left <= 0:
            break
        if pending.rests or pending.rate_budget(m.now) == 0:
            continue
        pending.let_budget_lapse(m.now)
        m.state.turn = pending.position
        m.note(pending.account)
        if pending.state.committed_at is None and pending.ids is not None:
            finished = _by_ids(m, pending, pending.ids)
        elif pending is m.pending[0] and pending.state.rate is None:
            finished, used = _set_based(m, pending, sweep_left)
            sweep_left -= used
        else:
            finished, used = _single(m, pending, sweep_left)
            sweep_left -= used
        if finished and pending.account is not pending.state:
            graces.killed(m, pending)
        elif finished:
            _account_for_gone_members(pending.state)
            batches.leave(m, pending.state, Phase.SCANNED)
    return sweep_left <= 0 or m.rows_left <= 0


def _by_ids(m: "Machine", pending: Pending, ids: tuple[str, ...]) -> bool:
    batch = pending.state
    budget = pending.rate_budget(m.now)
    before = batch.tally.matched + batch.members
    while batch.cursor < len(ids):
        if m.rows_left <= 0 or (budget is not None and batch.tally.matched + batch.members - before >= budget):
            return False
        m.row_by_id(ids[batch.cursor])
        batch.cursor += 1
    return True


def _single(m: "Machine", pending: Pending, sweep_left: int) -> tuple[bool, int]:
    """Do one slice row by row; whether it was the last, and how many candidates it had."""
    batch = pending.state
    assert batch.scan is not None
    # Without earlier batches the filter alone tells the matches; with them, any row not yet caught up may be one.
    filter = pending.filter if pending is m.pending[0] else EMPTY
    condition = Condition(filter, m.newest_pending)
    end, count = m.store.slice_end(batch.scan, batch.cursor, batch.below, sweep_left)
    if end is None:
        return True, 0
    part = Slice(batch.scan, batch.cursor, end)
    budget = pending.rate_budget(m.now)
    before = batch.tally.matched + batch.members
    limit = m.rows_left
    rows = m.store.select(part, condition, limit)
    for row in rows:
        if budget is not None and batch.tally.matched + batch.members - before >= budget:
            return False, count
        m.seen(row)
        batch.cursor = row.seq
    if len(rows) == limit:
        return False, count
    batch.cursor = end
    return count < sweep_left, count


def _set_based(m: "Machine", pending: Pending, sweep_left: int) -> tuple[bool, int]:
    """Do one slice; whether it was the last, and how many candidates it had."""
    batch = pending.state
    assert batch.scan is not None
    end, count = m.store.slice_end(batch.scan, batch.cursor, batch.below, sweep_left)
    if end is None:
        return True, 0
    part = Slice(batch.scan, batch.cursor, end)
    if batch.marks:
        batch.members += m.store.mark_members(part, Condition(pending.filter, pending.position), pending.position)
    else:
        if not pending.only_counts:
            part = _with_ties(m, pending, part)
        _without_ties(m, pending, part)
    if m.made_ready:  # the store has let go of the slice's rows
        m.made_ready = [row for old in m.made_ready if (row := m.store.by_seq(old.seq)) is not None]
    batch.cursor = part.upto
    return part.upto == end and count < sweep_left, count


def _with_ties(m: "Machine", pending: Pending, part: Slice) -> Slice:
    """Catch up the rows of the slice that need the single path; the slice, cut short where they are too many."""
    condition = Condition(pending.filter, pending.position)
    limit = m.rows_left
    rows = m.store.select(part, condition._replace(tied=True), limit)
    alone = pending.single_statuses()
    if alone:
        rows += m.store.select(part, condition._replace(tied=False, statuses=alone), limit)
        rows.sort(key=_seq)
    if len(rows) >= limit:
        rows = rows[:limit]
        part = part._replace(upto=rows[-1].seq)
    for row in rows:
        m.seen(row)
    return part


def _seq(row: Invocation) -> int:
    return row.seq


def _without_ties(m: "Machine", pending: Pending, part: Slice) -> None:
    tally = pending.state.tally
    tied = None if pending.only_counts else False
    for effect, in_statuses in pending.sweeps():
        condition = Condition(pending.filter, pending.position, None if effect.only_stamps else tied, in_statuses)
        done = m.store.sweep(part, condition, effect, pending.time, pending.position)
        if effect.removes and done:
            lifecycle.forget_journals(m, part.after + 1, part.upto)
        tally.matched += done
        setattr(tally, effect.counter, getattr(tally, effect.counter) + done)
        if done and ("status", _COMPLETED) in effect.sets:
            assert m.state.min_retention is not None
            m.store.timer_add(Timer(pending.time + m.state.min_retention, part.after + 1, part.upto))


def _account_for_gone_members(batch: BatchState) -> None:
    """Members that something else purged before their turn are no candidates any more."""
    if batch.committed_at is not None:
        gone = batch.members - batch.tally.matched
        batch.tally.matched += gone
        batch.tally.ended_by_other += gone
