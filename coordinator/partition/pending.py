"""A batch in force: its stored state with what is compiled from it.

Everything here is derived from `BatchState` and rebuilt when the machine starts.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from coordinator.model import limits
from coordinator.model.effects import COUNTED, ENDED_BY_OTHER, NOT_APPLICABLE, Effect, plain_effect
from coordinator.model.filters import EMPTY, Filter, predicate, statuses
from coordinator.model.invocation import Invocation
from coordinator.model.statuses import TRANSITIONS, Action, Status
from coordinator.partition.state import BatchState, Phase


class Members(Protocol):
    """Where the members of guarded batches are looked up."""

    def is_member(self, position: int, seq: int) -> bool: ...


class Pending:
    """One pending batch as the machine uses it."""

    __slots__ = ("account", "action", "effects", "filter", "ids", "matches", "position", "state", "time")

    def __init__(self, state: BatchState, store: Members, account: BatchState | None = None) -> None:
        """`account` is the batch that it is a part of, if it is: what it does is on that one's account."""
        self.state = state
        self.account = state if account is None else account
        self.position = state.in_force
        self.time = state.in_force_time
        self.action = Action(state.action)
        self.filter: Filter = state.filter if state.committed_at is None else EMPTY
        self.ids = state.filter.ids
        self.matches: Callable[[Invocation], bool]
        passes, failed_at = predicate(self.filter), state.filter.failed_at
        if state.committed_at is not None:
            marked = state.position
            self.matches = lambda row: store.is_member(marked, row.seq)
        elif failed_at is not None:
            self.matches = lambda row: store.is_member(failed_at, row.seq) and passes(row)
        else:
            self.matches = passes
        wanted = statuses(self.filter)
        self.effects: dict[int, Effect | None] = {
            int(status): self._effect(status) for status in Status if int(status) in wanted
        }
        """Stored status → effect on a row without ties; None: only the single path may perform it."""

    def _effect(self, status: Status) -> Effect | None:
        applicable = (status, self.action) in TRANSITIONS
        if self.only_counts:
            return COUNTED if applicable else NOT_APPLICABLE
        if not applicable and self.state.committed_at is not None and status is Status.COMPLETED:
            return ENDED_BY_OTHER
        return plain_effect(self.action, status)

    @property
    def only_counts(self) -> bool:
        """Whether a match changes nothing but a counter, told by its status alone, and the row's stamp."""
        if self.action is Action.RESTART_AS_NEW:  # whether it can be done, its type and its origin tell too
            return False
        return self.state.dry_run or self.action is Action.COUNT

    def stamping_effect(self, row: Invocation) -> Effect | None:
        """The effect on this row where that is only a stamp and a counter; None where it is more."""
        effect = self.effects.get(row.status)
        return effect if effect is not None and effect.only_stamps else None

    def sweeps(self) -> list[tuple[Effect, frozenset[int]]]:
        """The set-based statements that do a slice: an effect and the statuses it is performed in."""
        groups: dict[Effect, set[int]] = {}
        for status, effect in self.effects.items():
            if effect is not None:
                groups.setdefault(effect, set()).add(status)
        return [(effect, frozenset(group)) for effect, group in groups.items()]

    def single_statuses(self) -> frozenset[int]:
        """Statuses in which even a row without ties takes the single path."""
        return frozenset(status for status, effect in self.effects.items() if effect is None)

    @property
    def rests(self) -> bool:
        """Whether its scan has to wait: it is paused, or a part of one whose own scan has not ended.

        So what kills after a grace comes to no row before the cancel has, whose rate and pauses hold for both.
        """
        return self.state.paused or (self.account is not self.state and self.account.phase is Phase.PENDING)

    def let_budget_lapse(self, now: int) -> None:
        """What was not used for more than a second is lost: a rate is no average over times without ticks."""
        state, budget = self.state, self.rate_budget(now)
        if budget is not None and state.rate is not None and budget > state.rate:
            state.rate_since = now - limits.SECOND_US
            state.rate_from = state.tally.matched + state.members

    def rate_budget(self, now: int) -> int | None:
        """How many matches the rate allows at this time; None without a rate."""
        state = self.state
        if state.rate is None:
            return None
        allowed = state.rate * (now - state.rate_since) // 1_000_000
        return max(0, allowed - (state.tally.matched + state.members - state.rate_from))


def in_force(states: Iterable[BatchState], store: Members) -> list[Pending]:
    """Those of these batches that are pending, by position."""
    found = []
    for state in states:
        if state.phase is Phase.PENDING:
            found.append(Pending(state, store))
        if (kill := state.kill_in_force) is not None:
            found.append(Pending(kill, store, state))
    found.sort(key=lambda pending: pending.position)
    return found
