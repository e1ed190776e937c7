"""Folding a run of records: what it makes of requests and deployments, and what is to be appended for that.

Pure: whoever drives it commits, shows and publishes the outcome, in the order that its storage asks for.

Both roles fold in runs, and a run comes to what its records would one by one. Two things cut it short: a record that
contradicts what is known, before which all holds, and which is met again as the first of the next run; and a record of
which the driver says that it has to be alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from coordinator.logs.port import Entry, Record, Stream
from coordinator.model.errors import CallerError, CorruptionError
from coordinator.model.messages import Lapse, Register
from coordinator.requests import machine
from coordinator.requests.deployments import Registry
from coordinator.requests.machine import Event
from coordinator.requests.records import UnreadableError
from coordinator.requests.state import Request
from coordinator.runtime.requests import records

Alone = Callable[[Event | Register, Request | None, int], bool]
"""Whether an event, about this request, appended at this time, must have its run to itself."""
_NOTHING: Final[Mapping[str, int]] = {}


class Folded(NamedTuple):
    """What a run of records comes to."""

    end: int
    """The next position to fold: behind the run, or where it was cut."""
    changed: dict[str, Request]
    """Id → the request as it is after the run."""
    registry: Registry
    """The registry after the run; the same object where nothing was registered."""
    entries: list[Entry]
    """To be appended, in order: effects, and records that could not be read, as dead letters."""
    lapsed: frozenset[str]
    """Requests whose lapse has come back."""


def fold(
    stream: Stream,
    run: Sequence[Record],
    requests: Mapping[str, Request],
    registry: Registry,
    partitions: int,
    *,
    ahead: Mapping[str, int] = _NOTHING,
    alone: Alone = lambda event, before, at_us: False,
) -> Folded:
    """Take in the records of `run`, of which there is one at least, in order.

    `ahead` has the requests that were folded further than all else, and up to where.

    Raises CorruptionError when the first record contradicts itself or what is known.
    """
    taken = _Taken(stream, requests, registry, partitions, ahead)
    end = run[0].position
    for record in run:
        event = taken.read(record)
        must_be_alone = event is not None and alone(event, taken.before(event), record.appended_at)
        if must_be_alone and record is not run[0]:
            break
        try:
            taken.fold(event, record)
        except CorruptionError:
            if record is run[0]:
                raise
            break
        end = record.position + 1
        if must_be_alone:
            break
    return Folded(end, taken.changed, taken.registry, taken.entries, frozenset(taken.lapsed))


class _Taken:
    """What was taken in so far."""

    def __init__(
        self,
        stream: Stream,
        requests: Mapping[str, Request],
        registry: Registry,
        partitions: int,
        ahead: Mapping[str, int],
    ) -> None:
        self.registry = registry
        self.changed: dict[str, Request] = {}
        self.entries: list[Entry] = []
        self.lapsed: set[str] = set()
        self._stream = stream
        self._requests = requests
        self._partitions = partitions
        self._ahead = ahead

    def read(self, record: Record) -> Event | Register | None:
        """What the record says; None where that is nothing to fold."""
        try:
            return records.event(self._stream, record.value)
        except UnreadableError as error:
            self.entries.append(records.dead_letter(self._stream, record, str(error)))
            return None

    def before(self, event: Event | Register) -> Request | None:
        """The request that it is about."""
        return None if isinstance(event, Register) else self._request(event.request)

    def fold(self, event: Event | Register | None, record: Record) -> None:
        """Raises CorruptionError, and then nothing of the record is taken in."""
        if isinstance(event, Register):
            try:
                self.registry = self.registry.with_registered(event, record.appended_at)
            except CallerError as error:
                self.entries.append(records.dead_letter(self._stream, record, str(error)))
        elif event is not None:
            if isinstance(event, Lapse):
                self.lapsed.add(event.request)
            if record.position >= self._ahead.get(event.request, 0):
                self._step(event, record)

    def _step(self, event: Event, record: Record) -> None:
        before = self._request(event.request)
        after, effects = machine.step(before, event, record.appended_at, self._partitions)
        if after is not None and after is not before:
            self.changed[event.request] = after
        self.entries += [records.entry(effect) for effect in effects]

    def _request(self, id: str) -> Request | None:
        return self.changed.get(id) or self._requests.get(id)
