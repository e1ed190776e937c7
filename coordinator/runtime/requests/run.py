"""Folding a run of records: what it makes of requests and deployments, and what is to be appended for that.

Pure: whoever drives it commits, shows and publishes the outcome, in the order that its storage asks for.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coordinator.logs.port import Entry, Record, Stream
from coordinator.model.errors import CallerError
from coordinator.model.messages import Lapse, Register
from coordinator.requests import machine
from coordinator.requests.deployments import Registry
from coordinator.requests.records import UnreadableError
from coordinator.requests.state import Request
from coordinator.runtime.requests import records


class Folded(NamedTuple):
    """What a run of records comes to."""

    changed: dict[str, Request]
    """Id → the request as it is after the run."""
    registry: Registry
    """The registry after the run; the same object where nothing was registered."""
    entries: list[Entry]
    """To be appended, in order: effects, and records that could not be read, as dead letters."""
    lapsed: frozenset[str]
    """Requests whose lapse has come back."""


def fold(
    stream: Stream, run: Sequence[Record], requests: Mapping[str, Request], registry: Registry, partitions: int
) -> Folded:
    """Take in the records of `run`, in order.

    Raises CorruptionError when progress contradicts itself or what is known; then nothing of the run holds.
    """
    changed: dict[str, Request] = {}
    entries: list[Entry] = []
    lapsed: set[str] = set()
    for record in run:
        try:
            event = records.event(stream, record.value)
            if isinstance(event, Register):
                registry = registry.with_registered(event, record.appended_at)
                continue
        except (UnreadableError, CallerError) as error:
            entries.append(records.dead_letter(stream, record, str(error)))
            continue
        if event is None:
            continue
        if isinstance(event, Lapse):
            lapsed.add(event.request)
        before = changed.get(event.request) or requests.get(event.request)
        after, effects = machine.step(before, event, record.appended_at, partitions)
        if after is not None and after is not before:
            changed[event.request] = after
        entries += [records.entry(effect) for effect in effects]
    return Folded(changed, registry, entries, frozenset(lapsed))
