"""One attempt of one invocation: runs the handler's coroutine, and says what comes of it as reports.

Nothing here waits, sleeps, sends or looks at a clock. Whoever runs it is its `Host`: gives it the time and somewhere
to park the handler, hands it what is delivered, and carries away what it reports. In a test that is a script.

**Replay.** What the handler asks of its context is a step. A step that the journal has is answered from there and
does nothing; a new one is taken, and reported when the handler waits next. A handler that asks for another step than
the journal has does not fit it: the invocation is paused, because repeating would not help.

**Await points.** The handler waits for calls, sleeps, races and runs, and nowhere else as far as this module is
concerned. At each of those, with nothing in the journal left to repeat, a cancellation surfaces before any result.
That it did, and where, is a step too (`SURFACED`), so a later attempt raises it at the same place.

**Letting go.** A handler that waits while nothing happens is suspended: the report says for which steps it waits, and
the coroutine is taken down by `GivenUp`. The next attempt begins again, and the journal brings it back to where it
was. So nothing is lost with a message: what was missed while waiting is in the journal of the next attempt.
"""

import traceback
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from coordinator.model import limits
from coordinator.model.journal import Entry, Step, StepKind
from coordinator.model.messages import (
    BackingOff,
    Completed,
    Context,
    Paused,
    Report,
    Start,
    Suspended,
)
from coordinator.model.statuses import OUTCOME_NAMES, Outcome
from coordinator.participant.context import Context as HandlerContext
from coordinator.participant.errors import Cancelled, GivenUp, TerminalError, said
from coordinator.participant.futures import CallFuture, Future, SleepFuture
from coordinator.participant.journal import Journal
from coordinator.participant.values import encoded

if TYPE_CHECKING:
    from coordinator.participant.services import Handler


class Parking(Protocol):
    """Where a handler stands while it waits; an asyncio.Future is one."""

    def __await__(self) -> Generator[Any, Any, Any]: ...

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None:
        """Let the handler go on."""


class Host(Protocol):
    """Whoever runs attempts."""

    @property
    def inactivity_us(self) -> int:
        """How long a handler may wait before it is suspended."""

    def now_us(self) -> int:
        """Microseconds since the epoch."""

    def parking(self) -> Parking:
        """A new place to wait at."""

    def emit(self, attempt: "Attempt", report: Report) -> None:
        """Send a report, after all that came before it."""

    def call_at(self, attempt: "Attempt", at_us: int) -> None:
        """Poke the attempt at that time, if that is still its deadline then."""


class Attempt:
    """See above."""

    def __init__(self, start: Start, handler: "Handler", host: Host) -> None:
        self.start: Final = start
        self.handler: Final = handler
        self.host: Final = host
        self.journal: Final = Journal(start.id, start.attempt, self._emit)
        self.values: Final = dict(start.values)
        """The state of its key, as this attempt sees it."""
        self.context: Final = HandlerContext(self)
        self.over = False
        """Nothing that the handler does counts any more."""
        self.deadline: int | None = None
        """When to poke it, in microseconds since the epoch."""
        self.running: str | None = None
        """Name of the run that the handler is in."""
        self._calls: dict[int, CallFuture] = {}
        self._awaited: Sequence[Future] = ()
        self._parked: Parking | None = None
        self._cancelled = start.cancelled
        self._surfaced = False
        self.journal.learn(start.entries)

    # -- what is delivered -----------------------------------------------------------------------------------

    def learn(self, context: Context) -> None:
        """More of what it needs before it can run."""
        self.journal.learn(context.entries)
        self.values.update(context.values)

    def notify(self, entry: Entry) -> None:
        """A call has ended."""
        future = self._calls.get(entry.step)
        if future is None:
            self.journal.learn((entry,))  # the handler has not come to it again
        elif not future.done:
            future.settle(entry)
            if future in self._awaited:
                self.wake()

    def signal(self) -> None:
        """The invocation is to cancel."""
        self._cancelled = True
        if self._awaited:
            self.wake()

    def acknowledge(self, steps: int) -> None:
        """So many steps are durable."""
        self.journal.acknowledged = steps
        if not self._awaited:
            self.wake()

    def refuse(self, detail: str) -> None:
        """A report was refused for good, so that the partition knows less than the handler: somebody must look."""
        self.over = True
        self._emit(Paused(id=self.start.id, attempt=self.start.attempt, failure=detail, retry=self.start.retry + 1))
        self.wake()

    def drop(self) -> None:
        """Nobody waits for it any more. The handler is taken down where it waits for its context next."""
        self.over = True
        self.wake()

    def poke(self) -> None:
        """Its deadline has come: what it waits for is over, or it has waited long enough."""
        self.deadline = None
        if not any(future.done for future in self._awaited):
            self._suspend()
        self.wake()

    def wake(self) -> None:
        """Let the handler go on, if it is parked."""
        if self._parked is not None and not self._parked.done():
            self.deadline = None
            self._parked.set_result(None)

    @property
    def parked(self) -> bool:
        """Whether the handler waits for its context, and not for something else."""
        return self._parked is not None

    # -- the handler's run -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the handler to its end, or until it is given up."""
        start = self.start
        self._surfaced = self.journal.surfaced()
        try:
            ending = await self._ending()
        except GivenUp:
            if self.journal.mismatch is None:
                return
            ending = None
        if self.over:
            return
        if self.journal.replaying and isinstance(ending, Completed) and self.journal.mismatch is None:
            self.journal.differs("the handler ends before it")
        if self.journal.mismatch is not None:
            ending = Paused(id=start.id, attempt=start.attempt, failure=self.journal.mismatch, retry=start.retry + 1)
        assert ending is not None
        self._end(ending)

    async def _ending(self) -> Report:
        """What the handler has come to."""
        start, handler = self.start, self.handler
        try:
            result = await handler.call(self.context, start.input)
            what = f"the output of {handler.target}"
            output = None if result is None else encoded(result, raw=handler.raw, what=what)
            return Completed(id=start.id, attempt=start.attempt, outcome=OUTCOME_NAMES[Outcome.SUCCESS], output=output)
        except Cancelled:
            return Completed(id=start.id, attempt=start.attempt, outcome=OUTCOME_NAMES[Outcome.CANCELLED])
        except TerminalError as error:
            failure = said(error)
            return Completed(
                id=start.id, attempt=start.attempt, outcome=OUTCOME_NAMES[Outcome.FAILURE], failure=failure
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - of a handler anything may come, a GivenUp in a group too
            if self.over or self.journal.mismatch is not None:
                raise GivenUp from None
            return self._failed(error)

    def _failed(self, error: BaseException) -> Report:
        start, failed = self.start, self.start.retry + 1
        failure = said(error, with_type=True)
        pause_us = self.handler.service.retry.pause_us(failed)
        # As text: what formats an exception for a terminal would show the inputs and headers in its frames too.
        trace = "".join(traceback.format_exception(error)).rstrip()
        self.context.log.warning("attempt failed", failure=failure, failed=failed, exception=trace)
        if pause_us is None:
            return Paused(id=start.id, attempt=start.attempt, failure=failure, retry=failed)
        retry_at = self.host.now_us() + pause_us
        return BackingOff(id=start.id, attempt=start.attempt, retry_at=retry_at, failure=failure, retry=failed)

    def _end(self, report: Report) -> None:
        self.journal.flush()
        self.over = True
        self._emit(report)

    def _emit(self, report: Report) -> None:
        self.host.emit(self, report)

    # -- steps and await points, for the context -------------------------------------------------------------

    def check(self) -> None:
        """Raise GivenUp when the handler is to stop, RuntimeError where its context may not be used."""
        if self.over or self.journal.mismatch is not None:
            raise GivenUp
        if self.running is not None:
            raise RuntimeError(f"the run {self.running!r} uses the context; what it does is one step, so it may not")

    def called(self, future: CallFuture, entry: Entry | None) -> CallFuture:
        """Keep a call whose end will be told."""
        if entry is not None and entry.done:
            future.settle(entry)
        else:
            self._calls[future.step] = future
        return future

    def surface(self, step: int) -> None:
        """Raise the cancellation, if it surfaces where the handler awaits `step`."""
        journal = self.journal
        if journal.replaying:
            if not journal.surfaces(step):
                return
        elif self._cancelled and not self._surfaced:
            self._surfaced = True
            journal.take(Step(kind=StepKind.SURFACED, number=step))
        else:
            return
        raise Cancelled("the invocation was asked to cancel")

    def wait_for(self, future: Future) -> Generator[Any, Any, None]:
        """Wait until a call has ended or a sleep is over."""
        self.check()
        self.surface(future.step)
        if self.journal.replaying and not future.done:
            # Steps behind it were taken, so it was done by then.
            if not isinstance(future, SleepFuture):
                raise self.journal.differs(f"the handler awaits step {future.step} before it, which is not done")
            future.end()
        yield from self.wait_for_any(future.step, (future,))

    def wait_for_any(self, step: int, futures: Sequence[Future]) -> Generator[Any, Any, None]:
        """Wait at `step`, which the journal does not have, until one of the futures is done."""
        while not any(future.done for future in futures):
            self.journal.flush()
            self._awaited = futures
            deadline = self._patience(futures)
            if deadline is None:
                self._suspend()
                raise GivenUp
            self.deadline = deadline
            self.host.call_at(self, deadline)
            try:
                yield from self._park()
            finally:
                self._awaited = ()
            self.surface(step)

    def until_durable(self) -> Generator[Any, Any, None]:
        """Report the new steps and wait until the last of them is durable."""
        self.journal.flush()
        while self.journal.acknowledged < self.journal.next:
            yield from self._park()

    def _park(self) -> Generator[Any, Any, None]:
        if self._parked is not None:
            raise RuntimeError(
                "a handler awaits one thing of its context at a time; use ctx.gather and ctx.race, not asyncio's"
            )
        self._parked = parking = self.host.parking()
        try:
            yield from parking.__await__()
        finally:
            self._parked = None
        self.check()

    def _patience(self, futures: Sequence[Future]) -> int | None:
        """When to look again, in microseconds since the epoch; None: suspend it now."""
        now = self.host.now_us()
        idle = now + self.host.inactivity_us
        sleeps = [future for future in futures if isinstance(future, SleepFuture)]
        if not sleeps:
            return idle
        first = min(sleeps, key=lambda sleep: sleep.due_at)
        # It may have been made ready because by the partition's clock the sleep is over. To suspend it then, by ours,
        # would have it back at once.
        ahead = first.repeated and not self.journal.took_steps and first.due_at <= now + limits.CLOCK_SKEW_US
        if first.due_at <= idle or ahead:
            return first.due_at
        return idle if len(sleeps) < len(futures) else None

    def _suspend(self) -> None:
        awaiting = tuple(sorted({future.step for future in self._awaited}))
        start = self.start
        self._end(Suspended(id=start.id, attempt=start.attempt, cancelled=self._surfaced, awaiting=awaiting))
