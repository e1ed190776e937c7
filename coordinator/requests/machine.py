"""The coordinator machine: `step(request, event, at_us, partitions) -> (request, effects)`.

Theory of operation
-------------------
A request is a batch over all partitions. It lives in this machine from its submission until every partition
has ended its share:

    Submit ──► one Batch per partition ──► Progress … ──► every partition ended ──► completed, aborted, …
                                             │
               guarded: every partition prepared ──► Ask(Decide) ──► Decide ──► one Commit per partition,
                                                                            or Control(aborted) and refused

Every event is a record that came off the log, and `at_us` is when it was appended there; so is the expiry of
a timer (`Lapse`), which the driver appends when `due_at` says so. The machine has no clock of its own and
its effects are records to append. Nothing is decided in memory only: a decision is asked for with `Ask` and
holds when it is read back, the first one on the log.

Three rules make it safe to lose, repeat and reorder what goes between the coordinator and its partitions:

1. What is heard is folded by a join (`fold`), so order and repetition make no difference.
2. What is sent is the whole desired state under a revision (`commands`); a partition acknowledges a
   revision, and `Lapse` sends again whatever is not acknowledged. The pause between two such sends doubles
   while a partition stays silent, so that one which is away for a day does not find a day's worth of it.
3. What is shown is derived (`lifecycle`), and every step is held against `lifecycle.FOLLOWS`.

`requests` and `progress` are two streams and may be read in any relation to each other: progress may come
before the submission that it is about.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from coordinator.model import limits
from coordinator.model.errors import CorruptionError
from coordinator.model.messages import (
    Command,
    Decide,
    Lapse,
    Progress,
    RequestControl,
    RequestState,
    Submit,
)
from coordinator.requests import commands, fold, guards, lifecycle, submission
from coordinator.requests.effects import Ask, Effect, Send, Tell
from coordinator.requests.state import Decision, Partition, Request

Event = Submit | RequestControl | Decide | Lapse | Progress
Step = tuple[Request | None, tuple[Effect, ...]]

_RESENDS_MAX: Final = 4
"""Doublings of the pause between two sends of the same thing: from 5 to 80 seconds."""


def step(request: Request | None, event: Event, at_us: int, partitions: int) -> Step:
    """What becomes of `request` when `event`, appended at `at_us`, is read, and what is to be appended then.

    `partitions` is how many the deployment has; a submission freezes it for its request. The result is None
    when the event is about a request that is not known and does not make it known.

    Raises CorruptionError when progress contradicts itself, what was known, or the number of partitions.
    """
    assert request is None or request.id == event.request
    after, sends = _STEPS[type(event)](request, event, at_us, partitions)
    if after is None or after is request or after.submission is None:
        return after, ()
    after, asks = _ask(after, at_us)
    after, tells = _tell(request, after, at_us)
    return after, (*sends, *asks, *tells)


def due_at(request: Request) -> int | None:
    """When a `Lapse` is to be appended for it, microseconds; None while it waits for nothing."""
    if request.submission is None or lifecycle.ended(request):
        return None
    times = [_resend_at(request.partitions[number]) for number in _unanswered(request)]
    if request.undecided:
        asked = request.asked_at
        times.append(guards.deadline(request) if asked is None else asked + limits.RESEND_US)
    return min(times, default=None)


# -- one function per event ----------------------------------------------------------------------------------


def _submit(request: Request | None, event: Submit, at_us: int, partitions: int) -> Step:
    """The first submission of an id wins; a second one, the same or another, changes nothing."""
    if request is None:
        request = Request(id=event.request, partitions=())
    if request.submission is not None:
        return request, ()
    submitted = msgspec.structs.replace(
        request, submission=event, submitted_at=at_us, rate=_limit(event.rate), partitions=()
    )
    reason = submission.objection(event)
    if reason is not None:
        decision = Decision(commit=False, at=at_us, reason=reason)
        return msgspec.structs.replace(submitted, decision=decision), ()
    submitted = msgspec.structs.replace(submitted, partitions=_extended(request, partitions))
    unanswered = _unanswered(submitted)
    return _send(submitted, ((number, (commands.batch(submitted, number),)) for number in unanswered), at_us)


def _control(request: Request | None, event: RequestControl, at_us: int, partitions: int) -> Step:
    """Accepted while the request is not over, whether or not it changes anything; an abort also of its grace."""
    if request is None or not (_open(request) or (event.aborted and lifecycle.awaits_grace(request))):
        return request, ()
    controlled = msgspec.structs.replace(
        request,
        revision=request.revision + 1,
        paused=request.paused if event.paused is None else event.paused,
        rate=request.rate if event.rate is None else _limit(event.rate),
        aborted=request.aborted or event.aborted,
    )
    return _send_control(controlled, at_us)


def _decide(request: Request | None, event: Decide, at_us: int, partitions: int) -> Step:
    """The first decision wins, unless an operator's abort came before it."""
    if request is None or not request.undecided:
        return request, ()
    decision = Decision(commit=event.commit, at=at_us, reason=event.reason)
    decided = msgspec.structs.replace(request, decision=decision)
    if not event.commit:
        return _send_control(msgspec.structs.replace(decided, revision=request.revision + 1), at_us)
    commit = commands.commit(decided)
    waiting = [number for number in _unanswered(decided) if commit in commands.unanswered(decided, number)]
    return _send(decided, ((number, (commit,)) for number in waiting), at_us)


def _lapse(request: Request | None, event: Lapse, at_us: int, partitions: int) -> Step:
    """Send again what was not answered in time, and give up what was not decided in time."""
    if request is None or request.submission is None or lifecycle.ended(request):
        return request, ()
    late = [number for number in _unanswered(request) if _resend_at(request.partitions[number]) <= at_us]
    what = [(number, commands.unanswered(request, number)) for number in late]
    repeated, sends = _send(request, what, at_us, again=True)
    return _ask_again(repeated, sends, at_us)


def _progress(request: Request | None, event: Progress, at_us: int, partitions: int) -> Step:
    """Known before its submission or not, the request takes in what a partition tells."""
    if request is None:
        request = Request(id=event.request, partitions=(Partition(),) * partitions)
    number, count = event.partition, len(request.partitions)
    if request.refused and count == 0:
        return request, ()  # refused on sight: whoever sent a batch of this id, it was not this coordinator
    if not 0 <= number < count:
        raise CorruptionError(f"partition {number} told of request {request.id}, which is one over {count} partitions")
    after = _with(request, number, fold.fold(request.partitions[number], event, at_us))
    fold.total(after)
    if after.submission is not None and not commands.owes(after, number):
        after = _with(after, number, msgspec.structs.replace(after.partitions[number], owed_since=None))
    return after, ()


_STEPS: Final[dict[type[Event], Callable[[Request | None, Any, int, int], Step]]] = {
    Submit: _submit,
    RequestControl: _control,
    Decide: _decide,
    Lapse: _lapse,
    Progress: _progress,
}
"""Event → what it does. What follows from the new state alone `step` adds: ask for a decision, tell it."""


# -- what follows from the state -----------------------------------------------------------------------------


def _ask(request: Request, at_us: int) -> tuple[Request, tuple[Effect, ...]]:
    """Ask for the decision as soon as the counts allow one."""
    decide = guards.verdict(request) if request.asked_at is None else None
    if decide is None:
        return request, ()
    return msgspec.structs.replace(request, asked_at=at_us), (Ask(decide),)


def _ask_again(request: Request, sends: tuple[Effect, ...], at_us: int) -> Step:
    """On a lapse: ask once more for a decision that did not come back, or for the end when time is over."""
    if not request.undecided:
        return request, sends
    if at_us >= guards.deadline(request):
        decide: Decide | None = guards.overdue(request)
    elif request.asked_at is not None and at_us >= request.asked_at + limits.RESEND_US:
        decide = guards.verdict(request)
    else:
        decide = None
    if decide is None:
        return request, sends
    return msgspec.structs.replace(request, asked_at=at_us), (*sends, Ask(decide))


def _tell(before: Request | None, after: Request, at_us: int) -> tuple[Request, tuple[Effect, ...]]:
    """Tell the state when users see another one, and once more when all that was sent has arrived.

    Raises CorruptionError when the state may not follow the one before.
    """
    known = None if before is None or before.submission is None else before
    was = None if known is None else lifecycle.state(known)
    now = lifecycle.state(after)
    if was is not None and now is not was and now not in lifecycle.FOLLOWS[was]:
        raise CorruptionError(f"request {after.id} was {was} and would become {now}")
    settled = lifecycle.settled(after)
    if now is was and (not settled or (known is not None and lifecycle.settled(known))):
        return after, ()
    after = msgspec.structs.replace(after, told=after.told + 1)
    told = RequestState(
        request=after.id,
        number=after.told,
        state=now.value,
        at=at_us,
        tally=fold.total(after),
        settled=settled,
        reason=lifecycle.reason(after),
    )
    return after, (Tell(told),)


# -- sending -------------------------------------------------------------------------------------------------


def _send(
    request: Request, what: Iterable[tuple[int, tuple[Command, ...]]], at_us: int, *, again: bool = False
) -> tuple[Request, tuple[Effect, ...]]:
    """Send to partitions, by number, and note when. `again`: the same as before, so the pause doubles."""
    partitions = list(request.partitions)
    sends: list[Effect] = []
    for number, messages in what:
        one = partitions[number]
        partitions[number] = msgspec.structs.replace(
            one,
            sent_at=at_us,
            resends=one.resends + 1 if again else 0,
            owed_since=at_us if one.owed_since is None else one.owed_since,
        )
        sends += [Send(number, message) for message in messages]
    if not sends:
        return request, ()
    return msgspec.structs.replace(request, partitions=tuple(partitions)), tuple(sends)


def _send_control(request: Request, at_us: int) -> tuple[Request, tuple[Effect, ...]]:
    """Send the desired state to every partition where the request, or its grace, is not over."""
    control = commands.control(request)
    running = [number for number, one in enumerate(request.partitions) if one.ending is None or one.awaits_grace]
    return _send(request, ((number, (control,)) for number in running), at_us)


def _unanswered(request: Request) -> list[int]:
    """The partitions that have not acknowledged what they were told."""
    return [number for number in range(len(request.partitions)) if commands.unanswered(request, number)]


def _resend_at(partition: Partition) -> int:
    return (partition.sent_at or 0) + (limits.RESEND_US << min(partition.resends, _RESENDS_MAX))


def _with(request: Request, number: int, one: Partition) -> Request:
    known = request.partitions
    return msgspec.structs.replace(request, partitions=(*known[:number], one, *known[number + 1 :]))


def _open(request: Request) -> bool:
    return request.submission is not None and lifecycle.state(request) not in lifecycle.TERMINAL


def _extended(request: Request, partitions: int) -> tuple[Partition, ...]:
    """As many partitions as the deployment has, with what was heard of them before the submission."""
    known = request.partitions
    return known + (Partition(),) * (partitions - len(known))


def _limit(rate: int | None) -> int | None:
    """0 lifts the limit."""
    return rate if rate is not None and rate > 0 else None
