"""A partition as the coordinator meets it: answers commands with progress, keeps the conservation law.

Not the partition machine: it has no rows, only counts. What it shares with it is the protocol: the first batch
of an id wins, a control of a lower or equal revision changes nothing, one for an unknown id is remembered
without an answer, and every other command about a batch is answered with its progress.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec

from coordinator.model.messages import Batch, Command, Commit, Control, Progress, Tally


@dataclass
class Share:
    """One batch on one partition."""

    batch: Batch | None = None
    state: str = "unknown"
    position: int = 0
    revision: int = -1
    paused: bool = False
    aborted: bool = False
    candidates: int = 0
    matches: int = 0
    members: int = 0
    seen: int = 0
    committed_at: int | None = None
    tally: Tally = field(default_factory=Tally)
    sent: dict[int, int] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.state in ("completed", "aborted")


class FakePartition:
    """One partition. `told` collects its progress in the order of its outbox numbers."""

    def __init__(self, number: int, partitions: int, rng: random.Random) -> None:
        self.number = number
        self.partitions = partitions
        self.rng = rng
        self.shares: dict[str, Share] = {}
        self.told: list[Progress] = []
        self.position = 0
        self.full = 0
        """So many batches are still turned away as `full`."""
        self.broken = False
        """Whether batches are turned away for a reason that stays."""
        self.matches_max = 12
        self.fails = True
        self.mail: list[tuple[int, int, str]] = []
        """Sent to other partitions and not fetched: (from, to, request)."""

    def apply(self, command: Command, at: int) -> None:
        self.position += 1
        if isinstance(command, Batch):
            self._batch(command, at)
        elif isinstance(command, Control):
            self._control(command, at)
        elif isinstance(command, Commit):
            self._commit(command, at)

    def _batch(self, command: Batch, at: int) -> None:
        share = self.shares.get(command.request)
        if share is not None and share.batch is not None:
            self._tell(command.request, share, at)
            return
        refusal = None
        if at > command.not_after:
            refusal = "it came after its not_after"
        elif self.broken:
            refusal = "its filter is not understood here"
        elif self.full > 0:
            self.full -= 1
            refusal = "full"
        if refusal is not None:
            refused = Share(state="refused", position=self.position, revision=0)
            self._tell(command.request, refused, at, refusal)
            return
        share = self.shares.setdefault(command.request, Share())
        share.batch = command
        share.position = self.position
        if command.revision > share.revision:
            share.revision, share.paused = command.revision, command.paused
        share.candidates = self.rng.randint(0, 2 * self.matches_max)
        share.matches = self.rng.randint(0, min(share.candidates, self.matches_max))
        share.state = "aborted" if share.aborted else "running"
        self._tell(command.request, share, at)

    def _control(self, command: Control, at: int) -> None:
        share = self.shares.setdefault(command.request, Share())
        if command.revision > share.revision:
            share.revision, share.paused = command.revision, command.paused
            if command.aborted:
                share.aborted = True
                if share.state in ("running", "prepared"):
                    share.state = "aborted"
        if share.batch is not None:
            self._tell(command.request, share, at)

    def _commit(self, command: Commit, at: int) -> None:
        share = self.shares[command.request]
        if share.state == "prepared" and at <= command.not_after:
            share.state, share.committed_at, share.seen = "running", self.position, 0
            share.candidates = share.matches = share.members
        self._tell(command.request, share, at)

    def work(self, at: int, most: int = 4) -> bool:
        """Do some work of one batch, if there is any; whether there was."""
        able = [id for id, share in self.shares.items() if self._able(share)]
        if not able:
            return False
        request = self.rng.choice(able)
        share = self.shares[request]
        self.position += 1
        if share.state == "running":
            self._scan(request, share, self.rng.randint(1, most))
        else:
            self._finish_one(share)
        self._tell(request, share, at)
        return True

    @staticmethod
    def _able(share: Share) -> bool:
        return (share.state == "running" and not share.paused) or (share.over and share.tally.signalled > 0)

    def _scan(self, request: str, share: Share, slice_max: int) -> None:
        assert share.batch is not None
        marking = share.batch.guarded and share.committed_at is None
        for _ in range(min(slice_max, share.candidates - share.seen)):
            share.seen += 1
            if share.seen > share.matches:
                continue
            if marking:
                share.members += 1
            else:
                self._match(request, share)
        if not marking and self.rng.random() < 0.3:
            self._finish_one(share)
        if share.seen >= share.candidates:
            share.state = "prepared" if marking else "completed"

    def _match(self, request: str, share: Share) -> None:
        names = ["ended", "signalled", "ended_by_other", "already_signalled", "not_applicable"]
        if self.fails and self.rng.random() < 0.05:
            names = ["failed"]
        if share.batch is not None and (share.batch.dry_run or share.batch.action == "count"):
            names = ["applied"]
        self._count(share, "matched", self.rng.choice(names))
        if self.rng.random() < 0.2:
            to = self.rng.randrange(self.partitions)
            share.sent[to] = share.sent.get(to, 0) + 1
            self.mail.append((self.number, to, request))

    def _finish_one(self, share: Share) -> None:
        """Something that was asked to end has ended."""
        if share.tally.signalled:
            share.tally = msgspec.structs.replace(share.tally, signalled=share.tally.signalled - 1)
            self._count(share, "ended")

    @staticmethod
    def _count(share: Share, *names: str) -> None:
        counts = {name: getattr(share.tally, name) + 1 for name in names}
        share.tally = msgspec.structs.replace(share.tally, **counts)

    def receive(self, source: int, request: str, at: int) -> None:
        """A message of another partition on account of a batch has arrived."""
        self.position += 1
        share = self.shares.setdefault(request, Share())
        share.received[source] = share.received.get(source, 0) + 1
        if share.batch is not None:
            self._tell(request, share, at)

    def _tell(self, request: str, share: Share, at: int, reason: str | None = None) -> None:
        state = "paused" if share.state == "running" and share.paused else share.state
        self.told.append(
            Progress(
                request=request,
                partition=self.number,
                number=len(self.told) + 1,
                state=state,
                position=share.position,
                revision=share.revision,
                at=at,
                tally=share.tally,
                members=share.members,
                committed_at=share.committed_at,
                propagated=sum(share.received.values()),
                cursor_ppm=1_000_000 if share.candidates == 0 else share.seen * 1_000_000 // share.candidates,
                sent=dict(share.sent),
                received=dict(share.received),
                reason=reason,
            )
        )
