"""The coordinator's state in the process that owns it, from one take-over to the next: what it has folded so far.

Pure: it says what a run of records comes to (`step`) and takes that in once it is stored (`take`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from coordinator.logs.port import Entry, Record, Stream
from coordinator.model.messages import Lapse, Register
from coordinator.requests import lifecycle
from coordinator.requests.deployments import Deployment, Registry
from coordinator.requests.machine import Event
from coordinator.requests.state import Request
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.changelog import Change, Positions, Restored
from coordinator.runtime.requests.run import Folded, fold
from coordinator.runtime.requests.timers import Timers


class Step(NamedTuple):
    """What a run of records comes to."""

    entries: list[Entry]
    """To be appended first."""
    forgotten: frozenset[str]
    """Requests whose rows are to go then."""
    changes: list[Change]
    """Rows to be written at last: those that were shadowed, as they are, and those that the run changes. The last of
    them is written when all others are acknowledged: it says that the run is folded."""
    lapsed: frozenset[str]
    registry: Registry
    repaired: frozenset[bytes]
    """What was shadowed and is not when this is stored."""


class Tenure:
    """The state under one claim. All calls from one thread."""

    def __init__(
        self, claim: int, number: int, restored: Restored, partitions: int, until: Mapping[Stream, int]
    ) -> None:
        """Go on from what was `restored`; `until` is where the streams end now."""
        self.claim = claim
        self.number = number
        """Higher than those of all tenures before: see `changelog`."""
        self.positions = restored.positions
        self.timers = Timers()
        self._shadowed: frozenset[bytes] = frozenset()
        self._repair_asked = False
        self._requests = restored.requests
        self._registry = restored.registry
        self._ahead = restored.ahead
        self._partitions = partitions
        self._until = until
        for request in self._requests.values():
            self.timers.know(request)

    @property
    def caught_up(self) -> bool:
        """Whether all is folded that was there at the take-over; no timer expires before."""
        return all(self.positions[stream] >= end for stream, end in self._until.items())

    def shadow(self, key: bytes) -> None:
        """The newest row of this key is void: the next step writes it again."""
        self._shadowed |= {key}

    def take_repair(self) -> bool:
        """Whether a step is needed to write rows again, and was not asked for yet."""
        asked, self._repair_asked = self._repair_asked, bool(self._shadowed)
        return self._repair_asked and not asked

    def repair_not_asked(self) -> None:
        """What was taken did not come to be asked for."""
        self._repair_asked = False

    def step(self, stream: Stream, run: Sequence[Record]) -> Step | None:
        """What the beginning of the run comes to, as much of it as goes in one step; None when it was folded before.

        Raises CorruptionError when its first record contradicts what is known.
        """
        position = self.positions[stream]
        run = [record for record in run if record.position >= position]
        if not run:
            return None
        assert run[0].position == position, "records before it were left out"
        ahead = {id: own[stream] for id, own in self._ahead.items()}
        folded = fold(stream, run, self._requests, self._registry, self._partitions, ahead=ahead, alone=_alone)
        forgotten = set(self._forgotten(folded, run))
        shadowed = self._shadowed
        for id in filter(None, map(changelog.request_of, shadowed)):
            if id not in self._requests and id not in folded.changed:
                forgotten.add(id)  # known to nobody but a replaced owner
        written = self._written(folded, {**self.positions, stream: folded.end}, forgotten)
        repaired = shadowed - {changelog.key_of(change.what) for change in written}
        changes = [*self._as_they_are(repaired, forgotten), *written]
        return Step(folded.entries, frozenset(forgotten), changes, folded.lapsed, folded.registry, shadowed)

    def _forgotten(self, folded: Folded, run: Sequence[Record]) -> Iterable[str]:
        """What a lapse lets be forgotten, which then was alone in its run."""
        if folded.end > run[0].position + 1:
            return ()
        return (id for id in folded.lapsed if lifecycle.forgettable(self._requests.get(id), run[0].appended_at))

    def _written(self, folded: Folded, end: Positions, forgotten: set[str]) -> list[Change]:
        """A row for each thing that has changed, or one for the positions alone; the last one speaks for all."""
        changed = [request for request in folded.changed.values() if request.id not in forgotten]
        registered = folded.registry.deployments[len(self._registry.deployments) :]
        what: list[Request | Deployment | None] = [*changed, *registered]
        *others, last = what or [None]
        rows = [self._row(self.positions, one, end) for one in others]
        return [*rows, self._row(end, last, end)]

    def _row(self, positions: Positions, what: Request | Deployment | None, folded: Positions) -> Change:
        """`positions` is how far all is folded when it is written, `folded` how far this one is."""
        if not isinstance(what, Request):
            return Change(positions, what)
        own = changelog.later(folded, self._ahead.get(what.id, folded))
        return Change(positions, what, None if own == positions else own)

    def take(self, stream: Stream, step: Step, now_us: int) -> None:
        """The step is stored: go on from there."""
        self.positions = step.changes[-1].positions
        self._ahead = changelog.still_ahead(self._ahead, self.positions)
        self._registry = step.registry
        for change in step.changes:
            if isinstance(change.what, Request):
                self._requests[change.what.id] = change.what
                self.timers.know(change.what)
        for id in step.forgotten:
            self._requests.pop(id, None)
        self.timers.forget(step.forgotten)
        self.timers.read_back(step.lapsed, now_us)
        self._shadowed -= step.repaired

    def _as_they_are(self, keys: frozenset[bytes], but: set[str]) -> list[Change]:
        """The rows of these keys, before the record."""
        if not keys:
            return []
        known = [request for request in self._requests.values() if request.id not in but]
        every = (*known, *self._registry.deployments, None)
        return [self._row(self.positions, what, self.positions) for what in every if changelog.key_of(what) in keys]


def _alone(event: Event | Register, before: Request | None, at_us: int) -> bool:
    """What must not be half of what a run leaves behind: see `changelog`."""
    return isinstance(event, Register) or (isinstance(event, Lapse) and lifecycle.forgettable(before, at_us))
