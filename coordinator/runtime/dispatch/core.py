"""What goes to whom. No I/O, no clock of its own: driven by deliveries, sessions, reports and the time.

Theory of operation
-------------------
A partition delivers an attempt once: `Start`, the rest of its journal if that is long (`Context`), and then
whatever happens to it (`Signal`, `Notify`), up to a `Drop`. The attempt waits here until a session of the right
deployment has room. That is the deployment that its lane names: `@` and a deployment is that one, and a service is
the latest registered one that has it. So each lane leads to one deployment, and one queue for each deployment,
in the order of arrival, is all there is.

A lane is served while its deployment has a session. Partitions are told which are (`Serve`), and deliver no others;
what was under way when a lane closed is given back (`Released`), behind the `Serve`, so that it does not come again
at once. Hence nothing waits here for somebody who may never come.

An attempt is over here when its partition says so (`Drop`), when the partition has answered a report that lets go
of it, when a newer attempt is delivered, or when it is given back. Only the partition decides; the number of the
attempt fences off whoever has not heard of it. So to give back what may be over already is always safe, and this
is what is done in each case of doubt:

- A session ends, by its lease or by itself: what was sent to it is given back, and what was not waits again.
- A session opens a new stream: how much of the old one has arrived nobody knows, so all of it is given back.
- A `Start` that seems to have been here: publishing is at least once, so it may be a repetition. Then giving it
  back changes nothing, and else its next attempt comes.

Nothing of this is stored. A dispatcher that begins lets the partitions take everything back (`reclaim`). Where one may
hang, be replaced, and wake up with a `Serve` on its lips, each has a `tenure`, and partitions pass over a lower one.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from coordinator.model import limits, messages
from coordinator.requests.deployments import Registry
from coordinator.runtime.dispatch.sessions import Attempt, Session
from coordinator.runtime.errors import BusyError

OVER_MAX: Final = 65_536
"""Attempts that are remembered after they are over, to know a repetition by."""
VANISHED: Final = "its participant vanished"


class _Head(msgspec.Struct, tag_field="kind"):
    """What has to be known of a delivery; the rest of it is passed on unread."""

    id: str
    attempt: int


class _Start(_Head, tag=messages.Start.__struct_config__.tag):
    service: str
    deployment: str | None = None
    more: bool = False


class _Context(_Head, tag=messages.Context.__struct_config__.tag):
    last: bool = False


class _Signal(_Head, tag=messages.Signal.__struct_config__.tag):
    pass


class _Drop(_Head, tag=messages.Drop.__struct_config__.tag):
    pass


class _Notify(_Head, tag=messages.Notify.__struct_config__.tag):
    pass


_decode: Final = msgspec.msgpack.Decoder(_Start | _Context | _Signal | _Drop | _Notify).decode


class ToAppend(NamedTuple):
    """A command for a partition; None for each of them."""

    partition: int | None
    command: messages.Command


class Dispatch:
    """Attempts, lanes and sessions."""

    def __init__(self, registry: Registry, tenure: int = 0) -> None:
        """`tenure` goes into each `Serve`; whoever carries deliveries next needs a higher one, or the same."""
        self._registry = registry
        self._tenure = tenure
        self._sessions: dict[str, Session] = {}
        self._attempts: dict[str, Attempt] = {}
        """The newest attempt of each invocation that has one here."""
        self._loading: dict[str, Attempt] = {}
        self._waiting: dict[str, OrderedDict[str, Attempt]] = {}
        """Deployment with a session → what waits for one of its sessions to have room."""
        self._roomy: dict[str, OrderedDict[str, Session]] = {}
        """Deployment with a session → those of its sessions that have room, whose turn it is first."""
        self._over: OrderedDict[str, int] = OrderedDict()
        """Invocation → the newest attempt of it that is over."""
        self._served: tuple[str, ...] = ()
        self._to_append: list[ToAppend] = []
        self._to_wake: set[Session] = set()

    # -- what is to be done after each event -----------------------------------------------------------------

    def take_commands(self) -> Sequence[ToAppend]:
        """What is to be appended, in this order."""
        taken, self._to_append = self._to_append, []
        return taken

    def take_woken(self) -> set[Session]:
        """Sessions for which there is something to send, or whose stream is to end."""
        taken, self._to_wake = self._to_wake, set()
        return taken

    # -- how it stands ---------------------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """Participants that are connected."""
        return len(self._sessions)

    @property
    def held(self) -> int:
        """Attempts that sessions have."""
        return sum(len(session.attempts) for session in self._sessions.values())

    @property
    def waiting(self) -> int:
        """Attempts that no session has room for yet, or that are not complete yet."""
        return len(self._attempts) - self.held

    def session(self, id: str) -> Session | None:
        """The session of that id, while it is not over."""
        return self._sessions.get(id)

    def has(self, session: Session, id: str, number: int) -> Attempt | None:
        """The attempt, if it went out to the session and is not over."""
        attempt = session.attempts.get(id)
        return attempt if attempt is not None and attempt.number == number and attempt.sent else None

    # -- deliveries ------------------------------------------------------------------------------------------

    def delivered(self, partition: int, value: bytes) -> None:
        """A partition has delivered this. Raises msgspec.DecodeError when it is no delivery."""
        head = _decode(value)
        if isinstance(head, _Start):
            self._start(head, partition, value)
            return
        attempt = self._attempts.get(head.id)
        if attempt is None or attempt.number != head.attempt:
            return  # it is over
        if isinstance(head, _Drop):
            session = attempt.session if attempt.sent else None
            self._end(attempt)
            if session is not None:
                session.drop(value)
                self._to_wake.add(session)
        elif isinstance(head, _Context):
            self._context(attempt, value, last=head.last)
        elif attempt.session is None:
            attempt.frames.append(value)
        else:
            attempt.session.tell(attempt, value)
            self._to_wake.add(attempt.session)

    def _start(self, head: _Start, partition: int, value: bytes) -> None:
        lane = head.service if head.deployment is None else f"@{head.deployment}"
        attempt = Attempt(head.id, head.attempt, lane, partition, value, loading=head.more)
        before = self._attempts.get(head.id)
        if before is not None and before.number == head.attempt:
            if before.loading:
                before.frames = [value]  # and its contexts come again too
            return
        newest = self._over.get(head.id, 0) if before is None else before.number
        if newest >= head.attempt:
            # A repetition; or the invocation is another one under the same id, which then gets its next attempt.
            self._give_back(attempt)
            return
        if before is not None:
            self._end(before)
        deployment = self._leads_to(lane)
        if deployment is None:
            self._give_back(attempt)
            return
        self._attempts[attempt.id] = attempt
        if attempt.loading:
            self._loading[attempt.id] = attempt
        else:
            self._wait(attempt, deployment)
            self._fill(deployment)

    def _context(self, attempt: Attempt, value: bytes, *, last: bool) -> None:
        if not attempt.loading:
            return  # a repetition
        attempt.frames.append(value)
        if last:
            attempt.loading = False
            del self._loading[attempt.id]
            deployment = self._leads_to(attempt.lane)
            assert deployment is not None, "what loads in a lane that closes is given back"
            self._wait(attempt, deployment)
            self._fill(deployment)

    def ended(self, id: str, number: int) -> None:
        """Its partition has answered a report of this attempt so that nobody has it any more."""
        attempt = self._attempts.get(id)
        if attempt is not None and attempt.number == number:
            self._end(attempt)

    # -- sessions --------------------------------------------------------------------------------------------

    def open(self, id: str, deployment: str, capacity: int, now_us: int) -> Session:
        """A participant has come. Raises BusyError when there are too many, or too many lanes with it."""
        if len(self._sessions) >= limits.SESSIONS_MAX:
            raise BusyError(f"{limits.SESSIONS_MAX} participants are connected and no more go; try again later")
        session = Session(id, deployment, capacity, now_us)
        if deployment not in self._waiting:
            lanes = self._lanes({*self._waiting, deployment})
            serve = messages.Serve(lanes=lanes, tenure=self._tenure)
            if len(lanes) > limits.LANES_MAX or len(messages.encode(serve)) > limits.RECORD_BYTES_MAX:
                raise BusyError("too many services and deployments have participants; disconnect those of old ones")
            self._waiting[deployment] = OrderedDict()
            self._roomy[deployment] = OrderedDict()
            self._serve()
        self._sessions[id] = session
        return session

    def stream_opened(self, session: Session, now_us: int) -> int:
        """The session listens; the number of its stream. One that it had before ends."""
        number = session.stream_opened(now_us)
        for attempt in list(session.attempts.values()):
            if attempt.sent:
                session.drop(messages.encode(messages.Drop(id=attempt.id, attempt=attempt.number)))
                self._give_back(attempt)
        self._room(session)
        self._fill(session.deployment)
        self._to_wake.add(session)
        return number

    def stream_closed(self, session: Session, number: int, now_us: int) -> None:
        """A stream has ended. What has not gone out waits again; for what has, the session has its lease."""
        if number != session.stream or session.id not in self._sessions:
            return
        session.stream_closed(now_us)
        self._room(session)
        self._take_unsent(session)

    def leave(self, session: Session) -> None:
        """The participant goes by itself, and gives back what it has."""
        self._close(session, None)

    def look_at_leases(self, now_us: int) -> list[Session]:
        """End the sessions whose lease is over; which those were."""
        expired = [session for session in self._sessions.values() if session.expired(now_us)]
        for session in expired:
            self._close(session, VANISHED)
        return expired

    def renew_all(self, now_us: int) -> None:
        """Give every session its whole lease again: it was this process that heard nothing."""
        for session in self._sessions.values():
            session.renew(now_us)

    def _close(self, session: Session, failure: str | None) -> None:
        del self._sessions[session.id]
        session.streaming = False
        self._room(session)
        self._to_wake.add(session)
        self._take_unsent(session)
        deployment = session.deployment
        if not any(other.deployment == deployment for other in self._sessions.values()):
            left = self._waiting.pop(deployment)
            del self._roomy[deployment]
            self._serve()
            self._sort_out(left.values())
        for attempt in list(session.attempts.values()):
            self._give_back(attempt, failure)

    def _take_unsent(self, session: Session) -> None:
        unsent = [attempt for attempt in session.attempts.values() if not attempt.sent]
        for attempt in reversed(unsent):
            session.lose(attempt)
            self._wait(attempt, session.deployment, first=True)
        self._fill(session.deployment)

    # -- lanes -----------------------------------------------------------------------------------------------

    def registered(self, registry: Registry) -> None:
        """The registry has changed: some services may belong to another deployment now."""
        self._registry = registry
        self._serve()
        waiting = [attempt for queue in self._waiting.values() for attempt in queue.values()]
        for queue in self._waiting.values():
            queue.clear()
        self._sort_out(waiting)

    def _leads_to(self, lane: str) -> str | None:
        """The deployment that serves the lane, None while it has no session."""
        if lane.startswith("@"):
            deployment = lane[1:]
        else:
            located = self._registry.latest.get(lane)
            if located is None:
                return None
            deployment = located.deployment.id
        return deployment if deployment in self._waiting else None

    def _lanes(self, deployments: set[str]) -> tuple[str, ...]:
        """The lanes that these deployments serve."""
        latest = self._registry.latest.items()
        services = {name for name, located in latest if located.deployment.id in deployments}
        return tuple(sorted(services | {f"@{deployment}" for deployment in deployments}))

    def _serve(self) -> None:
        """Tell the partitions which lanes are served, if that has changed."""
        lanes = self._lanes(set(self._waiting))
        if lanes != self._served:
            self._served = lanes
            self._to_append.append(ToAppend(None, messages.Serve(lanes=lanes, tenure=self._tenure)))

    def _sort_out(self, attempts: Iterable[Attempt]) -> None:
        """Put what waited where its lane leads now, and give back what no lane leads anywhere any more."""
        for attempt in [*attempts, *self._loading.values()]:
            deployment = self._leads_to(attempt.lane)
            if deployment is None:
                self._give_back(attempt)
            elif not attempt.loading:
                self._wait(attempt, deployment)
        for deployment in self._waiting:
            self._fill(deployment)

    # -- one attempt -----------------------------------------------------------------------------------------

    def _wait(self, attempt: Attempt, deployment: str, *, first: bool = False) -> None:
        queue = self._waiting[deployment]
        queue[attempt.id] = attempt
        attempt.queue = queue
        if first:
            queue.move_to_end(attempt.id, last=False)

    def _fill(self, deployment: str) -> None:
        """Hand out what waits for the deployment, to its sessions that have room, in turn."""
        waiting, roomy = self._waiting.get(deployment), self._roomy.get(deployment)
        while waiting and roomy:
            _, attempt = waiting.popitem(last=False)
            attempt.queue = None
            session = next(iter(roomy.values()))
            session.give(attempt)
            roomy.move_to_end(session.id)
            self._room(session)
            self._to_wake.add(session)

    def _room(self, session: Session) -> None:
        """Note whether the session has room."""
        roomy = self._roomy.get(session.deployment)
        if roomy is None:
            return
        if session.has_room:
            roomy[session.id] = session
        else:
            roomy.pop(session.id, None)

    def _give_back(self, attempt: Attempt, failure: str | None = None) -> None:
        """Let its partition deliver the invocation again, as another attempt."""
        self._end(attempt)
        released = messages.Released(id=attempt.id, attempt=attempt.number, failure=failure)
        self._to_append.append(ToAppend(attempt.partition, released))

    def _end(self, attempt: Attempt) -> None:
        """Nobody here has it any more."""
        if self._attempts.get(attempt.id) is attempt:
            del self._attempts[attempt.id]
            self._loading.pop(attempt.id, None)
        if attempt.queue is not None:
            attempt.queue.pop(attempt.id, None)
            attempt.queue = None
        over = self._over
        over[attempt.id] = max(attempt.number, over.get(attempt.id, 0))
        over.move_to_end(attempt.id)
        if len(over) > OVER_MAX:
            over.popitem(last=False)
        session = attempt.session
        if session is not None:
            session.lose(attempt)
            self._room(session)
            self._fill(session.deployment)
