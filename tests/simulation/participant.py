"""A participant that runs no handlers: it reads deliveries and reports whatever comes to its mind.

While the log is random it reports of current and of long finished attempts, in any order. Once the log is
drained it is well-behaved: it completes every attempt that it holds.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from coordinator.model import messages
from coordinator.model.journal import StepKind
from coordinator.partition.outputs import Answer, Outgoing
from coordinator.partition.state import DELIVERIES
from tests.simulation import names

SECOND = 1_000_000


@dataclass
class Attempt:
    """One delivery, from its start until the participant has let go of it."""

    id: str
    number: int
    cancelled: bool
    held: bool = True
    called: bool = False
    """Whether it waits for somebody, as far as it knows."""


class Participant:
    """Runs the invocations of one partition."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.inbox: deque[messages.Delivery] = deque()
        self.attempts: dict[str, Attempt] = {}
        self.old: list[Attempt] = []
        self.waits_for_nothing: set[tuple[str, int]] = set()
        """Attempts that were suspended although they had called nobody; only operators end them."""
        self.taken: dict[str, int] = {}
        """Id -> steps that its handler has taken, over all attempts."""
        self.waitable: dict[str, list[int]] = {}
        """Id -> those of them that are calls and sleeps."""
        self.known: set[str] = set()
        self.confused: set[str] = set()
        """Ids that were used again: what is reported of the earlier invocation may be taken for the later one's."""

    def deliver(self, outgoing: list[Outgoing]) -> None:
        for entry in outgoing:
            if entry.destination == DELIVERIES:
                delivery = messages.decode_delivery(entry.value)
                self.inbox.append(delivery)
                if isinstance(delivery, messages.Start) and delivery.attempt == 1:
                    if delivery.id in self.known:  # one that was purged is used again
                        self.confused.add(delivery.id)
                    self.known.add(delivery.id)

    def read(self) -> None:
        """Take note of one delivery."""
        delivery = self.inbox.popleft()
        attempt = self.attempts.get(delivery.id)
        if isinstance(delivery, messages.Start):
            if attempt is not None:
                if delivery.id not in self.confused:
                    assert delivery.attempt > attempt.number, f"{delivery} came after attempt {attempt.number}"
                    assert not attempt.held, f"{delivery.id} was started while attempt {attempt.number} was held"
                self.old.append(attempt)
            called = any(entry.kind == StepKind.CALL and not entry.done for entry in delivery.entries)
            self.attempts[delivery.id] = Attempt(delivery.id, delivery.attempt, delivery.cancelled, called=called)
            self.check_journal(delivery)
        elif attempt is not None and attempt.number == delivery.attempt:
            if isinstance(delivery, messages.Signal):
                attempt.cancelled = True
            elif isinstance(delivery, messages.Drop):
                attempt.held = False

    def check_journal(self, start: messages.Start) -> None:
        """Every step that was acknowledged is there, in order."""
        if start.attempt == 1 or start.more or start.id in self.confused:
            return
        found = [entry.step for entry in start.entries]
        assert found == list(range(self.taken.get(start.id, 0))), f"{start} lacks steps"

    def held(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.held]

    def answered(self, report: messages.Report, answer: Answer | None) -> None:
        """A report that was refused is of an attempt that is over."""
        attempt = self.attempts.get(report.id)
        if answer is not None and answer.code == 409 and attempt is not None and attempt.number == report.attempt:
            attempt.held = False
        if isinstance(report, messages.Suspended) and answer is not None and answer.code == 400 and attempt is not None:
            attempt.held = True  # it awaited a step of an id that was used again
        if isinstance(report, messages.Steps) and answer is not None and answer.code == 200:
            self.took(report)
            if attempt is not None and any(step.kind == StepKind.CALL for step in report.steps):
                attempt.called = True

    def took(self, report: messages.Steps) -> None:
        """Note the steps that are new; the others are in the journal as what they were."""
        known = self.waitable.setdefault(report.id, [])
        for number, step in enumerate(report.steps, report.first):
            if number >= self.taken.get(report.id, 0):
                self.taken[report.id] = number + 1
                if step.kind in (StepKind.CALL, StepKind.SLEEP):
                    known.append(number)

    def report(self, now: int) -> messages.Report | None:
        """Something about an attempt: mostly about one that is held."""
        held, rng = self.held(), self.rng
        if held and rng.random() < 0.9:
            return self.about(rng.choice(held), now)
        known = [*self.attempts.values(), *self.old[-5:]]
        return self.about(rng.choice(known), now) if known else None

    def about(self, attempt: Attempt, now: int) -> messages.Report:
        rng = self.rng
        what: dict[str, Any] = {"id": attempt.id, "attempt": attempt.number}
        kind = rng.choices(
            ("started", "stepped", "suspended", "backing off", "paused", "released", "completed"),
            (3, 5, 2, 1, 1, 0.5, 2),
        )[0]
        if kind == "started":
            return messages.Started(**what, deployment=rng.choice((None, *names.DEPLOYMENTS)))
        if kind == "stepped":
            taken = self.taken.get(attempt.id, 0)
            again = rng.randrange(min(taken, 3) + 1) if rng.random() < 0.1 else 0
            steps = tuple(names.step(rng) for _ in range(rng.choice((1, 1, 2, 3, 6))))
            return messages.Steps(**what, first=taken - again, steps=steps)
        if kind == "completed":
            outcome = rng.choice(("success", "failure", "cancelled", "cancelled" if attempt.cancelled else "success"))
            if rng.random() < 0.02:
                return messages.Completed(**what, outcome=rng.choice(("killed", "bogus")))
            attempt.held = False
            return messages.Completed(**what, outcome=outcome, output=rng.choice((None, b"out")))
        was_held, attempt.held = attempt.held, False
        if kind == "suspended":
            known = self.waitable.get(attempt.id, [])
            awaiting = tuple(rng.sample(known, rng.randrange(1, min(len(known), 3) + 1))) if known else ()
            if rng.random() < 0.5:
                awaiting = ()
            if was_held and not awaiting and not attempt.called:
                self.waits_for_nothing.add((attempt.id, attempt.number))
            cancelled = attempt.cancelled and rng.random() < 0.5
            return messages.Suspended(**what, cancelled=cancelled, awaiting=awaiting)
        if kind == "released":
            return messages.Released(**what, failure=rng.choice((None, "it vanished")))
        if kind == "backing off":
            retry_at = now + rng.choice((-SECOND, 0, SECOND, 30 * SECOND))
            return messages.BackingOff(**what, retry_at=retry_at, failure="it broke", retry=rng.randrange(5))
        return messages.Paused(**what, failure="it broke for good", retry=rng.randrange(5))

    def finish(self) -> messages.Report | None:
        """Complete one attempt that is held."""
        for attempt in self.held():
            attempt.held = False
            outcome = "cancelled" if attempt.cancelled else "success"
            return messages.Completed(id=attempt.id, attempt=attempt.number, outcome=outcome)
        return None
