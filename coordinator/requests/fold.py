"""Folding what a partition tells into what is known of it.

The fold is a join: progress is cumulative and numbered, the highest number is the newest, and the
lowest-numbered terminal one is the ending. Minimum and maximum do not care for order or repetition, so any
order and duplication give the same result; a delta would not have that property.

Each progress is checked as it comes, old ones too: a sum that does not add up is never right, however late.
"""

from typing import Final

import msgspec

from coordinator.model.errors import CorruptionError
from coordinator.model.messages import Progress, Tally
from coordinator.requests.state import (
    ABORTED,
    COMPLETED,
    PARTITION_STATES,
    REFUSED,
    Ending,
    Partition,
    Request,
    queued,
)

_COUNTERS: Final = ("matched", *Tally.COUNTED)


def fold(partition: Partition, told: Progress, at_us: int) -> Partition:
    """The partition as known after `told` came at `at_us`.

    Raises CorruptionError when the counts break the conservation law or contradict what was told before.
    """
    _check(told)
    newest = partition.newest
    if newest is not None:
        _check_beside(newest, told)
    return msgspec.structs.replace(
        partition,
        newest=told if newest is None or told.number > newest.number else newest,
        ending=_ending(partition.ending, told),
        heard_at=max(at_us, partition.heard_at or 0),
        resends=0,
    )


def ends(told: Progress) -> bool:
    """Whether the batch is over on the partition that tells this."""
    return told.state in (COMPLETED, ABORTED) or (told.state == REFUSED and not queued(told))


def total(request: Request) -> Tally:
    """The counts over all partitions. Raises CorruptionError when they break the conservation law."""
    told = [partition.newest.tally for partition in request.partitions if partition.newest is not None]
    tally = Tally(**{name: sum(getattr(one, name) for one in told) for name in _COUNTERS})
    if not tally.adds_up():
        raise CorruptionError(f"the counts of request {request.id} do not add up over all partitions: {tally}")
    return tally


def _ending(known: Ending | None, told: Progress) -> Ending | None:
    if not ends(told):
        return known
    if known is not None and known.state != told.state:
        raise CorruptionError(
            f"partition {told.partition} told that request {told.request} is {known.state} (progress "
            f"{known.number}) and {told.state} (progress {told.number}); it can end only once"
        )
    if known is not None and known.number <= told.number:
        return known
    return Ending(told.number, told.state, told.at, told.tally.failed, told.reason)


def _check(told: Progress) -> None:
    where = f"progress {told.number} of partition {told.partition} on request {told.request}"
    if told.state not in PARTITION_STATES:
        raise CorruptionError(f"{where} has the unknown state {told.state!r}; a newer build may know it")
    if not told.tally.adds_up():
        raise CorruptionError(f"the counts in {where} do not add up: {told.tally}")


def _check_beside(known: Progress, told: Progress) -> None:
    """Cumulative counts rise with the number; the same number says the same thing."""
    if known.number == told.number:
        if known != told:
            raise CorruptionError(f"partition {told.partition} told two different things as its progress {told.number}")
        return
    earlier, later = sorted((known, told), key=lambda one: one.number)
    if later.tally.matched < earlier.tally.matched:
        raise CorruptionError(
            f"partition {told.partition} told {earlier.tally.matched} matches of request {told.request} in "
            f"progress {earlier.number} and {later.tally.matched} in progress {later.number}; a count of "
            "what was matched never falls"
        )
