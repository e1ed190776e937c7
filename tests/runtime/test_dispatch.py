"""The dispatcher's core: what goes to whom, whatever happens in between."""

import random

import msgspec
import pytest

from coordinator.model import framing, limits, messages
from coordinator.model.ids import invocation_id
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.requests.deployments import Registry
from coordinator.runtime.dispatch.core import VANISHED, Dispatch, ToAppend
from coordinator.runtime.dispatch.sessions import Session
from coordinator.runtime.errors import BusyError
from tests.runtime.carriers import World
from tests.simulation import settings

WORLDS = 3_000 if settings.LONG else 300
STEPS = 400
IDS = [invocation_id(number << 40, number) for number in range(20)]
GREETER = (ServiceSpec(name="Greeter", handlers=(Handler(name="greet"),)),)


# -- everything at once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(10))
def test_nothing_is_run_twice_or_lost_or_stuck(part: int) -> None:
    for number in range(WORLDS // 10):
        seed = settings.SEED * 1_000_003 + number * 10 + part
        world = World(seed)
        for _ in range(STEPS):
            world.step()
        world.run_out()
        left = [row for partition in world.partitions for row in partition.rows.values() if not row.done]
        assert left == [], f"seed {seed}"
        assert (world.core.held, world.core.waiting) == (0, 0), f"seed {seed}"
        assert world.got, f"seed {seed}"


# -- one thing at a time -------------------------------------------------------------------------------------


class Scene:
    """A core with one deployment, and the sessions that a test opens."""

    def __init__(self, *deployments: str) -> None:
        registry = Registry()
        for deployment in deployments or ("dp_1",):
            registry = registry.with_registered(Register(deployment=deployment, services=GREETER), 0)
        self.core = Dispatch(registry)

    def session(self, id: str = "s1", deployment: str = "dp_1", capacity: int = 10) -> Session:
        session = self.core.open(id, deployment, capacity, 0)
        self.core.stream_opened(session, 0)
        return session

    def deliver(self, *deliveries: messages.Delivery) -> None:
        for delivery in deliveries:
            self.core.delivered(0, messages.encode(delivery))


def start(number: int, attempt: int = 1, **fields: object) -> messages.Start:
    given = {"service": "Greeter", "handler": "greet", **fields}
    return messages.Start(id=IDS[number], attempt=attempt, **given)  # type: ignore[arg-type]


def taken(session: Session) -> list[messages.Delivery]:
    return [messages.decode_delivery(value) for value in framing.unframed(session.take(1 << 20))]


def test_a_delivery_goes_out_as_it_stands_on_the_log() -> None:
    at = Scene()
    session = at.session()
    value = messages.encode(start(0, input=b"x" * 100))
    at.core.delivered(0, value)
    assert session.take(1 << 20) == framing.frame(value)
    assert at.core.take_woken() == {session}


def test_lanes_are_served_while_their_deployment_has_a_session() -> None:
    at = Scene("dp_1", "dp_2")
    old, new = at.session("s1", "dp_1"), at.session("s2", "dp_2")
    at.session("s3", "dp_2")
    at.core.leave(old)
    at.core.leave(new)
    assert at.core.take_commands() == [
        ToAppend(None, messages.Serve(lanes=("@dp_1",))),
        ToAppend(None, messages.Serve(lanes=("@dp_1", "@dp_2", "Greeter"))),
        ToAppend(None, messages.Serve(lanes=("@dp_2", "Greeter"))),
    ]


def test_what_it_serves_it_serves_under_its_tenure() -> None:
    registry = Registry().with_registered(Register(deployment="dp_1", services=GREETER), 0)
    core = Dispatch(registry, tenure=5)
    core.leave(core.open("s1", "dp_1", 1, 0))
    assert [one.command for one in core.take_commands()] == [
        messages.Serve(lanes=("@dp_1", "Greeter"), tenure=5),
        messages.Serve(lanes=(), tenure=5),
    ]


def test_what_is_pinned_goes_to_its_deployment_and_the_rest_to_the_latest() -> None:
    at = Scene("dp_1", "dp_2")
    old, new = at.session("s1", "dp_1"), at.session("s2", "dp_2")
    at.deliver(start(0), start(1, deployment="dp_1"))
    assert [one.id for one in taken(old)] == [IDS[1]]
    assert [one.id for one in taken(new)] == [IDS[0]]


def test_a_lane_moves_to_a_newly_registered_deployment_once_that_has_a_session() -> None:
    at = Scene("dp_1")
    session = at.session(capacity=1)
    at.deliver(start(0), start(1))
    at.core.take_commands()
    registry = Registry()
    for deployment in ("dp_1", "dp_2"):
        registry = registry.with_registered(Register(deployment=deployment, services=GREETER), 0)
    at.core.registered(registry)
    released = messages.Released(id=IDS[1], attempt=1)
    assert at.core.take_commands() == [ToAppend(None, messages.Serve(lanes=("@dp_1",))), ToAppend(0, released)]
    assert list(session.attempts) == [IDS[0]]
    newer = at.session("s2", "dp_2")
    at.deliver(start(1, 2))
    assert taken(newer) == [start(1, 2)]


def test_what_waits_moves_to_a_deployment_that_had_its_session_first() -> None:
    registry = Registry().with_registered(Register(deployment="dp_1", services=GREETER), 0)
    at = Scene("dp_1")
    at.session(capacity=1)
    newer = at.session("s2", "dp_2")
    at.deliver(start(0), start(1), start(2))
    at.core.registered(registry.with_registered(Register(deployment="dp_2", services=GREETER), 1))
    assert taken(newer) == [start(1), start(2)]
    assert at.core.waiting == 0
    at.core.ended(IDS[0], 1)
    assert at.core.held == 2


def test_news_of_what_went_out_goes_out_alone() -> None:
    at = Scene()
    session = at.session()
    at.deliver(start(0))
    assert taken(session) == [start(0)]
    signal = messages.Signal(id=IDS[0], attempt=1)
    at.deliver(signal)
    assert taken(session) == [signal]
    assert not session.has_outgoing


def test_sessions_take_turns_up_to_their_capacity() -> None:
    at = Scene()
    sessions = [at.session("s1", capacity=2), at.session("s2", capacity=5)]
    at.deliver(*(start(number) for number in range(10)))
    assert [len(session.attempts) for session in sessions] == [2, 5]
    assert at.core.waiting == 3
    assert [one.id for one in taken(sessions[0])] == [IDS[0], IDS[2]]
    at.core.ended(IDS[0], 1)
    assert [one.id for one in taken(sessions[0])] == [IDS[7]]


def test_a_drop_takes_a_start_out_of_the_queue() -> None:
    at = Scene()
    session = at.session(capacity=1)
    at.deliver(start(0), start(1), start(2))
    at.deliver(messages.Drop(id=IDS[0], attempt=1), messages.Drop(id=IDS[2], attempt=1))
    assert taken(session) == [start(1)]


def test_a_drop_of_what_went_out_goes_ahead_of_everything() -> None:
    at = Scene()
    session = at.session()
    at.deliver(start(0))
    taken(session)
    drop = messages.Drop(id=IDS[0], attempt=1)
    at.deliver(messages.Signal(id=IDS[0], attempt=1), start(1), drop)
    assert taken(session) == [drop, start(1)]
    assert not at.core.has(session, IDS[0], 1)


def test_a_long_journal_is_complete_before_it_goes_out() -> None:
    at = Scene()
    session = at.session()
    whole = [start(0, more=True), messages.Context(id=IDS[0], attempt=1), messages.Signal(id=IDS[0], attempt=1)]
    at.deliver(*whole)
    assert not session.has_outgoing
    last = messages.Context(id=IDS[0], attempt=1, last=True)
    at.deliver(last, last)
    assert taken(session) == [*whole, last]


def test_a_journal_that_comes_again_is_taken_once() -> None:
    at = Scene()
    session = at.session()
    context = messages.Context(id=IDS[0], attempt=1)
    last = messages.Context(id=IDS[0], attempt=1, last=True)
    at.deliver(start(0, more=True), context, start(0, more=True), context, last, start(0, more=True), context, last)
    assert taken(session) == [start(0, more=True), context, last]


def test_a_repeated_start_of_what_is_over_is_given_back_and_not_run() -> None:
    at = Scene()
    session = at.session()
    at.deliver(start(0))
    taken(session)
    at.core.ended(IDS[0], 1)
    at.core.take_commands()
    at.deliver(start(0))
    assert not session.has_outgoing
    assert at.core.take_commands() == [ToAppend(0, messages.Released(id=IDS[0], attempt=1))]
    at.deliver(start(0, 2))
    assert taken(session) == [start(0, 2)]


def test_a_newer_attempt_is_the_end_of_the_one_before() -> None:
    at = Scene()
    session = at.session(capacity=1)
    at.deliver(start(0))
    taken(session)
    at.deliver(start(0, 2))
    assert taken(session) == [start(0, 2)]
    at.core.ended(IDS[0], 1)
    assert at.core.has(session, IDS[0], 2)


def test_an_attempt_in_a_lane_that_nobody_serves_is_given_back() -> None:
    at = Scene()
    at.deliver(start(0), start(1, deployment="dp_9"), start(2, service="Unknown"))
    released = [ToAppend(0, messages.Released(id=IDS[number], attempt=1)) for number in range(3)]
    assert at.core.take_commands() == released
    assert at.core.waiting == 0


def test_when_a_lease_is_over_what_was_sent_is_given_back_and_what_was_not_goes_to_others() -> None:
    at = Scene()
    silent = at.session("s1", capacity=2)
    at.deliver(start(0))
    taken(silent)
    at.deliver(start(1))
    other = at.session("s2", capacity=2)
    other.heard(5)
    at.core.take_commands()
    assert at.core.look_at_leases(limits.LEASE_US - 1) == []
    assert at.core.look_at_leases(limits.LEASE_US) == [silent]
    failed = messages.Released(id=IDS[0], attempt=1, failure=VANISHED)
    assert at.core.take_commands() == [ToAppend(0, failed)]
    assert taken(other) == [start(1)]
    assert at.core.session("s1") is None


def test_a_session_that_never_listens_is_over_with_its_lease_however_often_it_is_heard() -> None:
    at = Scene()
    session = at.core.open("s1", "dp_1", 1, 0)
    session.heard(limits.LEASE_US - 1)
    assert at.core.look_at_leases(limits.LEASE_US) == [session]


def test_leases_begin_anew_when_it_was_the_server_that_was_away() -> None:
    at = Scene()
    deaf = at.core.open("s1", "dp_1", 1, 0)
    listening = at.session("s2")
    at.core.renew_all(5 * limits.LEASE_US)
    assert at.core.look_at_leases(6 * limits.LEASE_US - 1) == []
    assert set(at.core.look_at_leases(6 * limits.LEASE_US)) == {deaf, listening}


def test_who_leaves_gives_back_without_a_failure() -> None:
    at = Scene()
    session = at.session()
    at.deliver(start(0))
    taken(session)
    at.core.take_commands()
    at.core.leave(session)
    serve, released = at.core.take_commands()
    assert serve == ToAppend(None, messages.Serve(lanes=()))
    assert released == ToAppend(0, messages.Released(id=IDS[0], attempt=1))


def test_a_new_stream_gives_back_what_the_old_one_may_have_lost() -> None:
    at = Scene()
    session = at.session(capacity=2)
    at.deliver(start(0))
    taken(session)
    at.deliver(start(1), messages.Signal(id=IDS[0], attempt=1))
    at.core.take_commands()
    at.core.stream_opened(session, 1)
    assert at.core.take_commands() == [ToAppend(0, messages.Released(id=IDS[0], attempt=1))]
    assert taken(session) == [messages.Drop(id=IDS[0], attempt=1), start(1)]


def test_nothing_is_given_to_a_session_that_does_not_listen() -> None:
    at = Scene()
    deaf, other = at.session("s1"), at.session("s2")
    at.core.stream_closed(deaf, deaf.stream, 0)
    at.deliver(start(0), start(1))
    assert not deaf.attempts
    assert len(other.attempts) == 2
    at.core.stream_closed(other, other.stream - 1, 0)
    assert other.streaming, "the end of an older stream means nothing"


def test_there_is_a_bound_on_sessions_and_on_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Scene("dp_1", "dp_2")
    monkeypatch.setattr(limits, "LANES_MAX", 2)
    at.session("s1", "dp_2")
    with pytest.raises(BusyError, match="disconnect"):
        at.session("s2", "dp_1")
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)
    with pytest.raises(BusyError, match="no more go"):
        at.session("s3", "dp_2")


def test_what_is_no_delivery_is_not_taken() -> None:
    for value in (b"", b"\xc1", messages.encode(messages.ImportEnd()), random.Random(1).randbytes(40)):
        with pytest.raises(msgspec.DecodeError):
            Scene().core.delivered(0, value)
