"""What a handler has in hand: its steps, its state, and who it is.

Everything here that does something is a step of the journal: asked for again by a later attempt, it is answered from
there. So a handler must ask for the same steps in the same order each time; what may differ (the time, random
numbers, what another system says) belongs into `run`.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coordinator.model import ids, limits
from coordinator.model.errors import CallerError
from coordinator.model.invocation import ServiceType, target_name
from coordinator.model.journal import Step, StepKind
from coordinator.participant.errors import TerminalError, said
from coordinator.participant.futures import CallFuture, Future, SleepFuture
from coordinator.participant.log import Log
from coordinator.participant.values import Duration, call_of, decoded, duration_us, encoded

if TYPE_CHECKING:
    from coordinator.participant.attempt import Attempt

FutureT = TypeVar("FutureT", bound=Future)


class Context:
    """Of one attempt; the first argument of its handler.

    Use it in the handler's own task. Inside of a function that `run` runs, it may not be used.
    """

    def __init__(self, attempt: "Attempt") -> None:
        start = attempt.start
        self._attempt: Final = attempt
        self.id: Final = start.id
        """Id of the invocation."""
        self.key: Final = start.key
        """The key, of a virtual object or workflow."""
        self.headers: Final[Mapping[str, str]] = start.headers
        """What was sent with the input."""
        self.idempotency_key: Final = start.idempotency_key
        self.attempt: Final = start.attempt
        """Number of this attempt; they also count where an invocation was suspended and went on."""
        self.retry: Final = start.retry
        """Attempts that have failed so far."""
        self.log: Final = Log(attempt)
        """A structlog logger; silent while what an earlier attempt did is repeated."""

    # -- others ----------------------------------------------------------------------------------------------

    def call(
        self,
        target: str,
        input: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        raw: bool = False,
    ) -> CallFuture:
        """Call `Service/handler` or `Object/key/handler`, attached: what cancels or kills this one does so to it.

        Await it for the output, or later, or race it. Awaiting raises CallFailed when it ended otherwise than well.
        `raw`: bytes in and out instead of JSON.
        """
        self._attempt.check()
        call = call_of(target, input, headers=headers, idempotency_key=idempotency_key, raw=raw)
        name = target_name(call.service, call.key, call.handler)
        step = self._attempt.journal.next
        entry = self._attempt.journal.recorded(StepKind.CALL, name)
        if entry is None:
            self._attempt.journal.take(Step(kind=StepKind.CALL, call=call))
        return self._attempt.called(CallFuture(self._attempt, step, name, ids.route(call), raw=raw), entry)

    def send(
        self,
        target: str,
        input: Any = None,
        *,
        delay: Duration | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        raw: bool = False,
    ) -> str:
        """Start another invocation, detached, at once or after a delay: it goes on whatever becomes of this one.

        Gives its id. It starts when this handler awaits next.
        """
        self._attempt.check()
        delay_us = 0 if delay is None else _duration(delay)
        call = call_of(target, input, headers=headers, idempotency_key=idempotency_key, raw=raw, delay_us=delay_us)
        step = self._attempt.journal.next
        name = target_name(call.service, call.key, call.handler)
        if self._attempt.journal.recorded(StepKind.SEND, name) is None:
            self._attempt.journal.take(Step(kind=StepKind.SEND, call=call))
        return ids.child_id(self.id, step, call)

    def cancel(self, id: str) -> None:
        """Ask another invocation to cancel. It may have ended by then, which is no error."""
        self._attempt.check()
        try:
            ids.partition_key_of(id)
        except CallerError as error:
            raise TerminalError(str(error)) from None
        if self._attempt.journal.recorded(StepKind.CANCEL, id) is None:
            self._attempt.journal.take(Step(kind=StepKind.CANCEL, name=id))

    # -- time ------------------------------------------------------------------------------------------------

    def sleep(self, duration: Duration) -> SleepFuture:
        """Sleep for `"1h 30m"`, seconds, or a timedelta, counted from now, also where it is awaited later.

        However long: the invocation is suspended meanwhile and no process needs to live.
        """
        self._attempt.check()
        duration_us = _duration(duration)
        step = self._attempt.journal.next
        entry = self._attempt.journal.recorded(StepKind.SLEEP)
        if entry is not None:
            assert entry.due_at is not None
            return SleepFuture(self._attempt, step, entry.due_at, repeated=True)
        self._attempt.journal.take(Step(kind=StepKind.SLEEP, duration=duration_us))
        return SleepFuture(self._attempt, step, self._attempt.host.now_us() + duration_us, repeated=False)

    # -- several ---------------------------------------------------------------------------------------------

    async def race(self, *futures: FutureT) -> FutureT:
        """Wait for the first of several calls and sleeps, and give that one.

        The others go on: await them later, or `cancel` a call by its id.
        """
        attempt = self._attempt
        _check_futures(futures, "race")
        if not 0 < len(futures) <= limits.AWAITED_MAX:
            raise TerminalError(f"a race takes 1 to {limits.AWAITED_MAX} futures, and this one has {len(futures)}")
        attempt.check()
        step = attempt.journal.next
        attempt.surface(step)
        entry = attempt.journal.recorded(StepKind.RACE)
        if entry is not None:
            if entry.number >= len(futures):
                won = f"was won by its future number {entry.number + 1}, and it has {len(futures)} now"
                raise attempt.journal.differs(won, step)
            winner = futures[entry.number]
            if isinstance(winner, SleepFuture):
                winner.end()
            return winner
        await _Waiting(attempt, step, futures)
        number = next(number for number, future in enumerate(futures) if future.done)
        attempt.journal.take(Step(kind=StepKind.RACE, number=number))
        return futures[number]

    async def gather(self, *futures: Future) -> list[Any]:
        """Wait for all of them, and give their results in this order.

        Where some have failed, all before the first of those are awaited, and that one's error is raised.
        """
        _check_futures(futures, "gather")
        return [await future for future in futures]

    # -- what a handler does itself --------------------------------------------------------------------------

    async def run(self, name: str, function: Callable[..., Any], *args: Any, raw: bool = False) -> Any:
        """Run a function of your own, once it succeeds never again: its result is durable before this goes on.

        A coroutine function is awaited, any other runs in a thread, so that it may block. The result takes a round
        trip through JSON, so that it is the same in each attempt; with `raw` it is bytes. A TerminalError is a
        result, too; any other exception fails the attempt, and the next one runs the function again.
        """
        attempt = self._attempt
        attempt.check()
        step = attempt.journal.next
        attempt.surface(step)
        entry = attempt.journal.recorded(StepKind.RUN, name)
        if entry is None:
            attempt.journal.flush()
            value, failure = await self._perform(name, function, args, raw=raw)
            attempt.check()
            attempt.journal.take(Step(kind=StepKind.RUN, name=name, value=value, failure=failure))
            await _Durable(attempt)
        else:
            value, failure = entry.value, entry.failure
        attempt.surface(step)
        if failure is not None:
            raise TerminalError(failure)
        return decoded(value, raw=raw, what=f"the result of the run {name!r}")

    async def _perform(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], *, raw: bool
    ) -> tuple[bytes | None, str | None]:
        """What the function gives, as bytes, or why it failed for good."""
        self._attempt.running = name
        try:
            if inspect.iscoroutinefunction(function):
                result = await function(*args)
            else:
                result = await asyncio.to_thread(function, *args)
                if inspect.isawaitable(result):  # of a lambda or a partial
                    result = await result
            return None if result is None else encoded(result, raw=raw, what=f"the result of the run {name!r}"), None
        except TerminalError as error:
            return None, said(error)
        finally:
            self._attempt.running = None

    # -- state -----------------------------------------------------------------------------------------------

    async def get(self, name: str, default: Any = None, *, raw: bool = False) -> Any:
        """An entry of the key's state, or `default`."""
        attempt = self._attempt
        attempt.check()
        if attempt.start.type == ServiceType.SERVICE:
            raise TypeError(
                f"{attempt.handler.target} belongs to a plain service and has no state; use a VirtualObject"
            )
        attempt.surface(attempt.journal.next)
        entry = attempt.journal.recorded(StepKind.GET, name)
        if entry is None:
            value = attempt.values.get(name)
            attempt.journal.take(Step(kind=StepKind.GET, name=name, value=value))
        else:
            value = entry.value
        return default if value is None else decoded(value, raw=raw, what=f"the state {name!r}")

    def set(self, name: str, value: Any, *, raw: bool = False) -> None:
        """Set an entry of the key's state. It is durable with the next await."""
        self._check_may_change()
        data = encoded(value, raw=raw, what=f"the state {name!r}")
        if self._attempt.journal.recorded(StepKind.SET, name) is None:
            self._attempt.journal.take(Step(kind=StepKind.SET, name=name, value=data))
            self._attempt.values[name] = data

    def clear(self, name: str) -> None:
        """Remove an entry of the key's state."""
        self._check_may_change()
        if self._attempt.journal.recorded(StepKind.CLEAR, name) is None:
            self._attempt.journal.take(Step(kind=StepKind.CLEAR, name=name))
            self._attempt.values.pop(name, None)

    def _check_may_change(self) -> None:
        attempt = self._attempt
        attempt.check()
        if attempt.start.type == ServiceType.SERVICE or attempt.handler.shared:
            raise TypeError(f"{attempt.handler.target} may not change state: only the exclusive handler of a key may")


class _Waiting:
    """Awaits the first of several futures."""

    def __init__(self, attempt: "Attempt", step: int, futures: tuple[Future, ...]) -> None:
        self._attempt, self._step, self._futures = attempt, step, futures

    def __await__(self) -> Any:
        return self._attempt.wait_for_any(self._step, self._futures)


class _Durable:
    """Awaits that all steps are durable."""

    def __init__(self, attempt: "Attempt") -> None:
        self._attempt = attempt

    def __await__(self) -> Any:
        return self._attempt.until_durable()


def _duration(duration: Duration) -> int:
    try:
        return duration_us(duration)
    except ValueError as error:
        raise TerminalError(str(error)) from None


def _check_futures(futures: tuple[Any, ...], what: str) -> None:
    for future in futures:
        if not isinstance(future, Future):
            raise TypeError(f"ctx.{what} takes what ctx.call and ctx.sleep give, not {future!r}")
