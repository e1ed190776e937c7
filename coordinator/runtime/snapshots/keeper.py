"""Snapshots by themselves: made in time, the old ones removed, and the log trimmed below those that stay.

One thread for all partitions of a process, one snapshot at a time, each made by a process of its own: that reads
the owner's file as operators' queries do, and the owner knows nothing of it. It needs no right to a partition either.
What it makes is true for good, because a state is a function of the log; so a process that has lost a partition and
does not know it yet does no harm. The worst that it does is to trim the log ahead of a new owner that is behind, which
then goes on from the snapshot.

The log is trimmed below the oldest snapshot that is kept, and only once as many as are to be kept were read back and
found whole, by this process or just now. The record of that oldest one stays: it tells whether the log is the same.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from coordinator.logs.port import Log, LogError, LogGoneError, Stream
from coordinator.model import limits
from coordinator.model.errors import CoordinatorError
from coordinator.runtime.clock import Clock, wall_clock_us
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots import apart
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.runtime.snapshots.recovery import belonging, stored_state
from coordinator.stores.archive import SnapshotArchive, SnapshotName

_LOOK_S: Final = 1.0
_AFTER_FAILURE_US: Final = 60 * limits.SECOND_US

Create = Callable[[Path, SnapshotArchive, Path], SnapshotName]
"""As `making.create`."""

logger = structlog.get_logger(__name__)


class Kept(NamedTuple):
    """How a partition's snapshots stand."""

    position: int | None = None
    """Of the newest one; None while there is none, or while it is not known."""
    at: int | None = None
    """When that was made, in microseconds since the epoch."""
    failures: int = 0
    """Attempts of this process that did not succeed."""


@dataclass
class _Watched:
    since: int
    """When the interval began: with the newest snapshot, or when the partition was first looked at."""
    looked_up: bool = False
    position: int | None = None
    failures: int = 0
    not_before: int = 0
    verified: set[SnapshotName] = field(default_factory=set)


class SnapshotKeeper:
    """Keeps snapshots of the partitions that it watches. `watch` and `unwatch` may be called from any thread."""

    def __init__(
        self,
        log: Log,
        data: DataDirectory,
        archive: SnapshotArchive,
        policy: SnapshotPolicy,
        *,
        create: Create = apart.create,
        now_us: Clock = wall_clock_us,
    ) -> None:
        self._log = log
        self._data = data
        self._archive = archive
        self._policy = policy
        self._create = create
        self._now_us = now_us
        self._watched: dict[int, _Watched] = {}
        self._stopping = threading.Event()

    def watch(self, partition: int) -> None:
        """This process owns the partition from now on."""
        self._watched.setdefault(partition, _Watched(self._now_us()))

    def unwatch(self, partition: int) -> None:
        """It does no longer. A snapshot that is under way is finished, and the next owner trims the log for it."""
        self._watched.pop(partition, None)

    def kept(self, partition: int) -> Kept:
        """How the partition's snapshots stand."""
        watched = self._watched.get(partition)
        if watched is None or watched.position is None:
            return Kept(failures=0 if watched is None else watched.failures)
        return Kept(watched.position, watched.since, watched.failures)

    def start(self) -> None:
        """Begin, on a thread of its own."""
        threading.Thread(target=self.run, name="snapshots", daemon=True).start()

    def stop(self) -> None:
        """Make no more."""
        self._stopping.set()

    def run(self) -> None:
        """Look after the partitions until stopped."""
        while not self._stopping.wait(_LOOK_S):
            for partition in list(self._watched):
                if self._stopping.is_set():
                    return
                self.look(partition)

    def look(self, partition: int) -> None:
        """Make a snapshot of the partition if it is time for one."""
        watched = self._watched.get(partition)
        if watched is None or self._now_us() < watched.not_before:
            return
        try:
            if not watched.looked_up:
                self._look_up(partition, watched)
            if self._is_due(partition, watched):
                self._make(partition, watched)
        except LogGoneError:
            self.stop()
        except Exception as error:  # whatever it is: nobody else would begin this thread again
            watched.failures += 1
            watched.not_before = self._now_us() + _AFTER_FAILURE_US
            is_defect = not isinstance(error, (CoordinatorError, LogError, OSError))
            logger.error(
                "snapshot failed", partition=partition, reason=str(error), again_after_s=60, exc_info=is_defect
            )

    def _look_up(self, partition: int, watched: _Watched) -> None:
        """What others have made before."""
        for name, _, at in belonging(self._log, partition, self._archive)[:1]:
            watched.position, watched.since = name.position, at
        watched.looked_up = True

    def _is_due(self, partition: int, watched: _Watched) -> bool:
        state = stored_state(self._data.store(partition))
        if state is None or state.log != self._log.identity:
            return False
        records = state.position - (-1 if watched.position is None else watched.position)
        is_time = self._now_us() - watched.since >= self._policy.every_us
        return records >= self._policy.every_records or (records > 0 and is_time)

    def _make(self, partition: int, watched: _Watched) -> None:
        began = self._now_us()
        name = self._create(self._data.store(partition), self._archive, self._data.snapshot(partition))
        watched.position, watched.since = name.position, self._now_us()
        watched.verified.add(name)
        took_s = (watched.since - began) / 1e6
        logger.info("snapshot made", partition=partition, position=name.position, took_s=round(took_s, 3))
        if self._watched.get(partition) is watched:
            self._let_go(partition, watched)

    def _let_go(self, partition: int, watched: _Watched) -> None:
        """Trim the log and remove snapshots, as far as those that stay allow it."""
        kept = self._newest_whole(partition, watched)
        if len(kept) < self._policy.keep:
            return
        oldest = kept[-1].position
        self._log.trim(Stream.COMMANDS, partition, oldest)
        watched.verified.intersection_update(kept)
        for name, *_ in self._archive.list(self._log.identity, partition):
            if name.position < oldest:
                self._archive.delete(name)

    def _newest_whole(self, partition: int, watched: _Watched) -> list[SnapshotName]:
        """The newest snapshots that are whole, one for each position, as many as are to be kept."""
        kept: list[SnapshotName] = []
        for name, *_ in belonging(self._log, partition, self._archive):
            if kept and kept[-1].position == name.position:
                continue  # two owners have made one
            if name in watched.verified or self._archive.is_whole(name):
                watched.verified.add(name)
                kept.append(name)
            else:
                logger.error(
                    "snapshot passed over",
                    partition=partition,
                    position=name.position,
                    reason="it does not have the bytes that it was made with",
                )
            if len(kept) == self._policy.keep:
                break
        return kept
