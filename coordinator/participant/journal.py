"""The steps of one attempt: those that earlier attempts took, which are repeated, and those it adds.

Steps have numbers in the order in which the handler asks for them. Up to `known` the journal says what a step must
be and what came of it; from there on steps are new, and are reported in the order of their numbers, some at a time.
"""

from collections.abc import Callable, Iterable
from typing import Final

from coordinator.model import limits
from coordinator.model.invocation import target_name
from coordinator.model.journal import Entry, Step, StepKind
from coordinator.model.messages import Report, Steps
from coordinator.participant.errors import GivenUp, TerminalError

_STEP_BYTES: Final = 64
"""More than the numbers of a step and the names of its fields take."""
_BYTES_PER_CHAR: Final = 4

_WORDS: Final = {
    StepKind.CALL: "a call of {}",
    StepKind.SEND: "a send to {}",
    StepKind.SLEEP: "a sleep",
    StepKind.RUN: "the run {!r}",
    StepKind.GET: "a get of {!r}",
    StepKind.SET: "a set of {!r}",
    StepKind.CLEAR: "a clear of {!r}",
    StepKind.RACE: "a race",
    StepKind.SURFACED: "the cancellation that surfaced",
    StepKind.CANCEL: "a cancel of {}",
}


class Journal:
    """Of one attempt."""

    def __init__(self, id: str, attempt: int, emit: Callable[[Report], None]) -> None:
        self.next = 0
        """Number of the step that the handler asks for next."""
        self.known = 0
        """So many steps are there from earlier attempts."""
        self.acknowledged = 0
        """So many steps are durable."""
        self.mismatch: str | None = None
        """How the handler's code does not fit: a sentence."""
        self._id = id
        self._attempt = attempt
        self._emit = emit
        self._entries: dict[int, Entry] = {}
        self._new: list[Step] = []
        self._new_bytes = 0

    def learn(self, entries: Iterable[Entry]) -> None:
        """What earlier attempts did, or some of it. Notices may have overtaken it: what is done stays done."""
        for entry in entries:
            before = self._entries.get(entry.step)
            if before is None or not before.done:
                self._entries[entry.step] = entry
        self.known = len(self._entries)
        self.acknowledged = max(self.acknowledged, self.known)

    @property
    def replaying(self) -> bool:
        """Whether the handler still repeats what it did before."""
        return self.next < self.known

    @property
    def took_steps(self) -> bool:
        """Whether this attempt has added anything."""
        return self.next > self.known

    def surfaced(self) -> bool:
        """Whether the cancellation surfaced in an earlier attempt."""
        return any(entry.kind == StepKind.SURFACED for entry in self._entries.values())

    def surfaces(self, step: int) -> bool:
        """Whether the cancellation surfaced just here, where the handler awaits `step`. Then that is repeated."""
        entry = self._entries.get(self.next)
        if entry is None or entry.kind != StepKind.SURFACED or entry.number != step:
            return False
        self.next += 1
        return True

    def recorded(self, kind: StepKind, name: str = "") -> Entry | None:
        """What came of the next step before, None when it is new. Raises GivenUp when another step was taken."""
        if self.next >= self.known:
            return None
        entry = self._entries[self.next]
        if entry.kind != kind or entry.name != name:
            raise self.differs(f"is {_words(kind, name)} now")
        self.next += 1
        return entry

    def differs(self, now: str, step: int | None = None) -> GivenUp:
        """The code does not fit to a step that was recorded, the next unless said; what to raise about it."""
        step = self.next if step is None else step
        entry = self._entries[step]
        self.mismatch = (
            f"step {step} was {_words(entry.kind, entry.name)} and {now}: the handler's code has changed, or is "
            "not deterministic; resume it on a deployment whose code takes the recorded steps"
        )
        return GivenUp(self.mismatch)

    def take(self, step: Step) -> int:
        """Add a step and give its number. It is reported with the next flush."""
        if self.next >= limits.STEPS_MAX:
            raise TerminalError(
                f"an invocation may take {limits.STEPS_MAX} steps; let it call others for a part of them"
            )
        if len(step.name) > limits.KEY_CHARS_MAX:
            raise TerminalError(f"the name of a step may have {limits.KEY_CHARS_MAX} characters: {step.name[:40]!r}…")
        size = _size(step)
        if len(self._new) == limits.STEPS_PER_REPORT_MAX or self._new_bytes + size > limits.CALL_BYTES_MAX:
            self.flush()
        self._new.append(step)
        self._new_bytes += size
        self.next += 1
        return self.next - 1

    def flush(self) -> None:
        """Report the new steps."""
        if self._new:
            first = self.next - len(self._new)
            self._emit(Steps(id=self._id, attempt=self._attempt, first=first, steps=tuple(self._new)))
            self._new.clear()
            self._new_bytes = 0


def _words(kind: int, name: str) -> str:
    return _WORDS[StepKind(kind)].format(name)


def _size(step: Step) -> int:
    """Bytes of the step in its report, at most."""
    size = _STEP_BYTES + len(step.value or b"") + _BYTES_PER_CHAR * (len(step.name) + len(step.failure or ""))
    call = step.call
    if call is not None:
        texts = target_name(call.service, call.key, call.handler) + (call.idempotency_key or "")
        size += _STEP_BYTES + len(call.input or b"") + _BYTES_PER_CHAR * len(texts)
        for name, value in call.headers.items():
            size += _STEP_BYTES + _BYTES_PER_CHAR * (len(name) + len(value))
    return size
