"""The coordinator's state in the process that owns it, from one take-over to the next: what it has folded so far.

Pure: it says what a record comes to (`step`) and takes that in once it is stored (`take`).
"""

from collections.abc import Mapping
from typing import NamedTuple

from coordinator.logs.port import Entry, Record, Stream
from coordinator.requests import lifecycle
from coordinator.requests.deployments import Deployment, Registry
from coordinator.requests.state import Request
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.changelog import Change, Restored
from coordinator.runtime.requests.run import fold
from coordinator.runtime.requests.timers import Timers


class Step(NamedTuple):
    """What one record comes to."""

    entries: list[Entry]
    """To be appended first."""
    forgotten: frozenset[str]
    """Requests whose rows are to go then."""
    changes: list[Change]
    """Rows to be written at last, in order: those that were shadowed, as they are, and one for the record."""
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

    def step(self, stream: Stream, record: Record) -> Step | None:
        """What the record comes to; None when it was folded before.

        Raises CorruptionError when it contradicts what is known.
        """
        position = self.positions[stream]
        if record.position < position:
            return None
        assert record.position == position, "records before it were left out"
        folded = fold(stream, [record], self._requests, self._registry, self._partitions)
        positions = {**self.positions, stream: position + 1}
        shadowed = self._shadowed
        forgotten = {id for id in folded.lapsed if lifecycle.forgettable(self._requests.get(id), record.appended_at)}
        for id in filter(None, map(changelog.request_of, shadowed)):
            if id not in self._requests and id not in folded.changed:
                forgotten.add(id)  # known to nobody but a replaced owner
        changed = [request for request in folded.changed.values() if request.id not in forgotten]
        registered = folded.registry.deployments[len(self._registry.deployments) :]
        what: list[Request | Deployment] = [*changed, *registered]
        written = [Change(positions, one) for one in what or (None,)]
        repaired = shadowed - {changelog.key_of(change.what) for change in written}
        changes = [*self._as_they_are(repaired, forgotten), *written]
        return Step(folded.entries, frozenset(forgotten), changes, folded.lapsed, folded.registry, shadowed)

    def take(self, stream: Stream, step: Step, now_us: int) -> None:
        """The step is stored: go on from there."""
        self.positions = step.changes[-1].positions
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
        return [Change(self.positions, what) for what in every if changelog.key_of(what) in keys]
