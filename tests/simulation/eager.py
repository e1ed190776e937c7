"""The eager model: every batch applied to every existing row at once, at the batch's position.

It knows nothing of catch-up, scans, cursors or ticks. It keeps a row of its own for each invocation, has a batch
take effect on all of them when its record comes, and is told what single records did afterwards. What the
machine shows for a row, with the pending batches folded in virtually (`as_seen`), must equal the row here.

**Abort.** "Rows already caught up keep its effect, all others never had it" speaks of what the lazy
side has got round to, so the model must look at that once: for each row on which the aborted batch took effect
here and whose stored row does not have it yet, the row is worked out again from the stored one without that
batch. All other rows are left as they are, and nothing else is ever taken over from the lazy side unchecked.

**Counts.** Every effect here is remembered with its counter (`hits`). What a batch has counted on the lazy side must
at every step be the sum over those hits whose effect the stored rows have, and all of them once its scan ended.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field

import msgspec

from coordinator.model import filters, limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.invocation import CANCEL, CHILDREN, HELD, STATE, WOKEN, CancelState, Invocation, ServiceType
from coordinator.model.messages import Tally
from coordinator.model.statuses import ACTIONS, NAMES, TRANSITIONS, Action, Counter, Outcome, Status

Stored = Callable[[int], Invocation | None]
MARKED = "marked"
"""What a hit of a batch that only marks its members is remembered as."""


@dataclass(eq=False)
class InForce:
    """One batch from one position on: a guarded one is two of these, marking and then committed."""

    batch: EagerBatch
    position: int
    at: int
    matches: Callable[[Invocation], bool]
    action: Action
    marks: bool = False
    hits: dict[int, str] = field(default_factory=dict)
    """Row (by seq) → the counter of the effect that it had there."""
    gone: int = 0
    """Members that were no more when a committed batch's scan ended."""

    def ended(self, row: Invocation) -> bool:
        """Whether it has ended the row itself."""
        return self.hits.get(row.seq) == Counter.ENDED

    def effect_on(self, row: Invocation) -> str | None:
        """Change the row; the counter, or None when the row is gone."""
        if self.marks:
            row.caught_up_to = self.position
            return MARKED
        batch = self.batch
        return take_effect(
            row, self.action, self.at, self.position, batch.deployment,
            only_counts=batch.dry_run, committed=self is batch.committed, imported=row.seq in batch.imported,
        )  # fmt: skip


@dataclass(eq=False)
class EagerBatch:
    """A request id that came in force."""

    request: str
    action: Action
    guarded: bool
    dry_run: bool
    deployment: str | None
    imported: set[int]
    """Rows whose input is not known."""
    state: str = "pending"
    """pending, prepared, done or aborted."""
    marking: InForce | None = None
    committed: InForce | None = None
    grace: int | None = None
    """Of a cancel, until it is called off."""
    kill: InForce | None = None
    """What its grace kills when it is over."""

    @property
    def acting(self) -> InForce | None:
        """The entry that has its effect on rows."""
        return self.committed if self.guarded else self.marking

    @property
    def entries(self) -> tuple[InForce, ...]:
        """Those that have been in force, in order."""
        return tuple(entry for entry in (self.marking, self.committed, self.kill) if entry is not None)

    def has_killed(self, row: Invocation) -> bool:
        """Whether it has ended the row itself, by a kill."""
        return row.outcome == Outcome.KILLED and any(entry.ended(row) for entry in self.entries)


@dataclass
class Controls:
    """What is remembered of a request id's controls."""

    revision: int = 0
    aborted: bool = False


@dataclass(frozen=True)
class Resolution:
    """What became of a row that a batch had asked to cancel."""

    asked_by: int
    counter: str
    by: int
    """Position of the batch or record that ended the row."""


def take_effect(
    row: Invocation,
    action: Action,
    at: int,
    position: int,
    deployment: str | None,
    *,
    only_counts: bool = False,
    committed: bool = False,
    imported: bool = False,
) -> str | None:
    """The effect of an action on a row, written out once more in the plainest way. None: the row is gone."""
    change = TRANSITIONS.get((Status(row.status), action))
    row.caught_up_to = position
    if action is Action.RESTART_AS_NEW and change is not None:
        if row.type == ServiceType.WORKFLOW:
            return Counter.NOT_APPLICABLE
        return Counter.FAILED if imported else Counter.APPLIED
    if only_counts or action is Action.COUNT:
        return Counter.NOT_APPLICABLE if change is None else Counter.APPLIED
    if change is None:
        ended = committed and row.status == Status.COMPLETED
        return Counter.ENDED_BY_OTHER if ended else Counter.NOT_APPLICABLE
    if action is Action.PURGE:
        return None
    if action is Action.CANCEL and row.cancel:
        return Counter.ALREADY_SIGNALLED
    row.modified_at = at
    row.batch = position
    if action is Action.KILL or change.to is Status.COMPLETED:
        row.status = int(Status.COMPLETED)
        row.outcome = int(Outcome.KILLED if action is Action.KILL else Outcome.CANCELLED)
        row.completed_at = at
        row.timer_at = at + row.retention
        row.cancel, row.ties = 0, row.ties & STATE
        row.cancel_batch = None
        return Counter.ENDED
    if action is Action.CANCEL:
        row.cancel_batch = position
        row.ties |= CANCEL
        if row.ties & CHILDREN:
            row.cancel = int(CancelState.REQUESTED)
            return Counter.SIGNALLED
        row.cancel = int(CancelState.SIGNALLED)
        if not row.ties & HELD:
            row.status, row.timer_at = int(Status.READY), None
        return Counter.SIGNALLED
    row.timer_at = None
    if action is Action.PAUSE:
        row.status = int(Status.PAUSED)
        row.ties &= ~(HELD | WOKEN)
    else:
        row.status = int(Status.READY)
        row.deployment = deployment if deployment is not None else row.deployment
    return Counter.APPLIED


class EagerModel:
    """One partition as it would be if batches took no time."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.rows: dict[int, Invocation] = {}
        self.batches: dict[str, EagerBatch] = {}
        self.controls: dict[str, Controls] = {}
        self.in_force: list[InForce] = []
        """In the order of their positions."""
        self.resolutions: dict[int, Resolution] = {}
        self.imported: set[int] = set()

    # -- records, before the machine sees them ---------------------------------------------------------------

    def batch(self, c: messages.Batch, position: int, now: int) -> None:
        """The record of a batch: if it comes in force, it takes effect on every row, now."""
        controls = self.controls.get(c.request, Controls())
        if c.request in self.batches or not self._acceptable(c, now, needs_room=not controls.aborted):
            return
        self.controls[c.request] = Controls(max(controls.revision, c.revision), controls.aborted)
        batch = EagerBatch(c.request, Action(c.action), c.guarded, c.dry_run, c.deployment, self.imported)
        self.batches[c.request] = batch
        batch.grace = None if c.dry_run else c.grace
        batch.marking = InForce(batch, position, now, self._passes(c), batch.action, marks=c.guarded)
        if controls.aborted:
            batch.state = "aborted"
            return
        self._strike(batch.marking)

    def _passes(self, c: messages.Batch) -> Callable[[Invocation], bool]:
        names = c.filter.status
        if names is None:
            names = tuple(NAMES[status] for status, what in TRANSITIONS if what == c.action)
        plain = msgspec.structs.replace(c.filter, status=names, killed_by=None, failed_of=None)
        tests = [filters.predicate(plain)]
        if c.filter.killed_by is not None:
            by = self.batches.get(c.filter.killed_by)
            entries = () if by is None else by.entries
            tests.append(lambda row: row.outcome == Outcome.KILLED and any(entry.ended(row) for entry in entries))
        if c.filter.failed_of is not None:
            of = self.batches.get(c.filter.failed_of)
            entry = None if of is None or of.state in ("pending", "prepared") or of.dry_run else of.acting
            hits = {} if entry is None else entry.hits
            tests.append(lambda row: hits.get(row.seq) == Counter.FAILED)
        return lambda row: all(test(row) for test in tests)

    def _acceptable(self, c: messages.Batch, now: int, *, needs_room: bool) -> bool:
        if now > c.not_after or c.action not in ACTIONS or not c.request or len(c.request) > limits.NAME_CHARS_MAX:
            return False
        if c.grace is not None and (c.action != Action.CANCEL or c.grace > limits.GRACE_MAX_US):
            return False
        try:
            filters.check(c.filter)
        except CallerError:
            return False
        return not needs_room or self._has_room()

    def _has_room(self) -> bool:
        prepared = sum(batch.state == "prepared" for batch in self.batches.values())
        return len(self.in_force) + prepared < limits.PENDING_BATCHES_MAX

    def tick(self, position: int, now: int) -> None:
        """A tick is taken: a grace that is over by now, the oldest cancel's, kills what that has not ended."""
        over = [batch for batch in self.batches.values() if self._awaits_grace(batch)]
        over = [batch for batch in over if batch.acting is not None and batch.acting.at + (batch.grace or 0) <= now]
        if not over or not self._has_room():
            return
        batch = min(over, key=lambda one: one.entries[0].position)
        assert batch.acting is not None
        asked_at = batch.acting.position
        batch.kill = InForce(
            batch, position, now,
            lambda row: row.status != Status.COMPLETED and row.cancel_batch == asked_at, Action.KILL,
        )  # fmt: skip
        self._strike(batch.kill)

    def _awaits_grace(self, batch: EagerBatch) -> bool:
        if batch.grace is None or batch.kill is not None or batch.state not in ("pending", "done"):
            return False
        return batch.state == "pending" or self.tally(batch)[1].signalled > 0

    def commit(self, c: messages.Commit, position: int, now: int) -> None:
        batch = self.batches.get(c.request)
        if batch is None or batch.state != "prepared":
            return
        if now > c.not_after:
            batch.state = "aborted"
            return
        assert batch.marking is not None
        members = batch.marking.hits
        batch.state = "pending"
        batch.committed = InForce(batch, position, now, lambda row: row.seq in members, batch.action)
        self._strike(batch.committed)

    def control(self, c: messages.Control) -> None:
        if not c.request or len(c.request) > limits.NAME_CHARS_MAX:
            return
        controls = self.controls.setdefault(c.request, Controls())
        if c.revision <= controls.revision:
            return
        controls.revision = c.revision
        if not c.aborted or controls.aborted:
            return
        controls.aborted = True
        batch = self.batches.get(c.request)
        if batch is not None:
            batch.grace = None
            if batch.state in ("pending", "prepared"):
                batch.state = "aborted"
            for entry in [entry for entry in self.in_force if entry.batch is batch]:
                self._withdraw(entry)

    # -- effects ---------------------------------------------------------------------------------------------

    def _strike(self, entry: InForce) -> None:
        self.in_force.append(entry)
        for row in list(self.rows.values()):
            if entry.matches(row):
                self._hit(entry, row)

    def _hit(self, entry: InForce, row: Invocation) -> None:
        asked_by, was = row.cancel_batch, row.status
        counter = entry.effect_on(row)
        if counter is None:
            del self.rows[row.seq]
            counter = Counter.APPLIED
        elif row.status != was and row.status == Status.COMPLETED:
            self.resolve(row, asked_by, entry.position)
        entry.hits[row.seq] = counter

    def _withdraw(self, aborted: InForce) -> None:
        """It never had an effect but on the rows whose stored form has it."""
        self.in_force.remove(aborted)
        for seq in list(aborted.hits):
            stored = self.stored(seq)
            if stored is not None and stored.caught_up_to < aborted.position:
                del aborted.hits[seq]
                self._work_out_again(stored)

    def _work_out_again(self, stored: Invocation) -> None:
        row = self.rows[stored.seq] = copy(stored)
        resolution = self.resolutions.get(row.seq)
        if resolution is not None and resolution.by > stored.caught_up_to:
            del self.resolutions[row.seq]
        for entry in self.in_force:
            if entry.position > stored.caught_up_to:
                entry.hits.pop(row.seq, None)
                if row.seq in self.rows and entry.matches(row):
                    self._hit(entry, row)

    def resolve(self, row: Invocation, asked_by: int | None, by: int) -> None:
        """The row has ended; a batch may have been waiting for that."""
        if asked_by is not None:
            by_grace = any(
                batch.kill and (batch.kill.position, batch.acting and batch.acting.position) == (by, asked_by)
                for batch in self.batches.values()
            )
            counter = "ended" if row.outcome == Outcome.CANCELLED or by_grace else "ended_by_other"
            self.resolutions[row.seq] = Resolution(asked_by, counter, by)

    # -- what the lazy side must show ------------------------------------------------------------------------

    def as_seen(self, stored: Invocation | None) -> Invocation | None:
        """The stored row with the batches in force folded in; None when it is gone."""
        if stored is None:
            return None
        row = copy(stored)
        for entry in self.in_force:
            if row.caught_up_to < entry.position and entry.matches(row) and entry.effect_on(row) is None:
                return None
        return row

    def scan_ended(self, entry: InForce) -> None:
        """The machine has taken it off its list: every stored row must have its effect."""
        self.in_force.remove(entry)
        batch = entry.batch
        late = [seq for seq in entry.hits if not self._has(seq, entry.position)]
        assert not late, f"the scan of {batch.request} ended before rows {late} had its effect"
        if entry is batch.kill:
            return
        if entry.marks and not batch.dry_run:
            batch.state = "prepared"
            return
        batch.state = "done"
        if batch.committed is not None:
            assert batch.marking is not None
            entry.gone = len(batch.marking.hits) - len(entry.hits)

    def tally(self, batch: EagerBatch) -> tuple[int, Tally]:
        """How many members and what counts the machine must have by now."""
        entry, members = batch.marking, 0
        assert entry is not None
        if batch.guarded:
            members = sum(self._has(seq, entry.position) for seq in entry.hits)
            entry = batch.committed
        tally = Tally()
        if entry is None:
            return members, tally
        for seq, hit in entry.hits.items():
            counter = hit
            if not self._has(seq, entry.position):
                continue
            if counter == Counter.SIGNALLED:
                resolution = self.resolutions.get(seq)
                if resolution is not None and resolution.asked_by == entry.position and self._has(seq, resolution.by):
                    counter = resolution.counter
            setattr(tally, counter, getattr(tally, counter) + 1)
            tally.matched += 1
        tally.matched += entry.gone
        tally.ended_by_other += entry.gone
        return members, tally

    def _has(self, seq: int, position: int) -> bool:
        stored = self.stored(seq)
        return stored is None or stored.caught_up_to >= position
