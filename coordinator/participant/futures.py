"""What a handler has begun and may wait for: calls and sleeps."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from coordinator.model import ids
from coordinator.model.journal import Entry
from coordinator.model.statuses import OUTCOME_NAMES, Outcome
from coordinator.participant.errors import CallFailed
from coordinator.participant.values import decoded

if TYPE_CHECKING:
    from coordinator.participant.attempt import Attempt

_SUCCESS = OUTCOME_NAMES[Outcome.SUCCESS]


class Future(ABC):
    """Await it for its result; or keep it, begin something else, and race the two."""

    __slots__ = ("_attempt", "_waited", "step")

    def __init__(self, attempt: "Attempt", step: int) -> None:
        self._attempt = attempt
        self._waited = False
        self.step = step
        """Its number in the journal."""

    def __await__(self) -> Generator[Any, Any, Any]:
        # Awaited once more it is no await point: the journal could not tell at which of the two a cancellation
        # has surfaced.
        if not self._waited:
            yield from self._attempt.wait_for(self)
            self._waited = True
        return self._result()

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether awaiting it would take no time.

        It may become so earlier or later in another attempt: do not branch on it, race it.
        """

    @abstractmethod
    def _result(self) -> Any: ...


class CallFuture(Future):
    """A call of another invocation; awaiting it gives that one's output, or raises CallFailed."""

    __slots__ = ("_entry", "_raw", "_route", "target")

    def __init__(self, attempt: "Attempt", step: int, target: str, route: str | None, *, raw: bool) -> None:
        super().__init__(attempt, step)
        self.target = target
        self._route = route
        self._raw = raw
        self._entry: Entry | None = None

    @property
    def id(self) -> str:
        """Id of the invocation that was called."""
        return ids.derived_id(self._attempt.start.id, self.step, self._route)  # few ask for it, and it takes its time

    def settle(self, entry: Entry) -> None:
        """The invocation has ended."""
        self._entry = entry

    @property
    def done(self) -> bool:
        """Whether the invocation has ended."""
        return self._entry is not None

    def _result(self) -> Any:
        entry = self._entry
        assert entry is not None
        if entry.outcome == _SUCCESS:
            return decoded(entry.value, raw=self._raw, what=f"the output of {self.target}")
        raise CallFailed(self.target, self.id, str(entry.outcome), entry.failure)


class SleepFuture(Future):
    """A sleep; awaiting it takes until it is over."""

    __slots__ = ("_over", "due_at", "repeated")

    def __init__(self, attempt: "Attempt", step: int, due_at: int, *, repeated: bool) -> None:
        super().__init__(attempt, step)
        self.due_at = due_at
        """Microseconds since the epoch."""
        self.repeated = repeated
        """An earlier attempt began it."""
        self._over = False

    def end(self) -> None:
        """It was over in an earlier attempt, whatever the clock says in this."""
        self._over = True

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._over or self._attempt.host.now_us() >= self.due_at

    def _result(self) -> None:
        return None
