"""What must hold when things meet that seldom do: pauses and rates, used ids, no room, live sends in an import."""

from __future__ import annotations

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.invocation import KEY
from coordinator.model.messages import Control, ImportEnd
from tests.partition.world import SECOND, World

ALL = Filter(all=True)


def killed(world: World) -> int:
    return world.counts("r1").get("ended", 0)


def test_a_rate_does_not_make_up_for_a_pause() -> None:
    world = World()
    for _ in range(100):
        world.invoke(due_at=2 * world.now)
    world.batch("r1", "kill", ALL, rate=10)
    world.append(Control(request="r1", revision=1, paused=True, rate=10), after=SECOND)
    world.append(Control(request="r1", revision=2, rate=10), after=600 * SECOND)
    world.tick()
    world.append(Control(request="r1", revision=3, paused=True, rate=10))
    assert killed(world) <= 10


def test_a_rate_does_not_make_up_for_a_time_without_ticks() -> None:
    world = World()
    for _ in range(100):
        world.invoke(due_at=2 * world.now)
    world.batch("r1", "kill", ALL, rate=10)
    world.tick(after=600 * SECOND)
    world.tick()
    world.append(Control(request="r1", revision=1, paused=True, rate=10))
    assert 0 < killed(world) <= 11


def test_another_batch_under_a_remembered_request_id_is_refused_and_not_taken_for_a_repeat() -> None:
    world = World()
    world.invoke()
    world.batch("r1", "kill", ALL)
    world.tick_until_idle()
    again = world.batch("r1", "kill", ALL, not_after=world.now + 2 * limits.NOT_AFTER_US)
    assert again.code == 409
    assert "used before" in str(again.detail)
    assert world.told("r1").state == "refused"


def test_an_aborted_batch_ends_also_where_there_is_no_room_for_it() -> None:
    world = World()
    for number in range(limits.PENDING_BATCHES_MAX):
        world.batch(f"b{number}", "kill", ALL, paused=True)
    world.append(Control(request="r1", revision=1, aborted=True))
    world.batch("r1", "kill", ALL)
    assert world.told("r1").state == "aborted"


def test_a_key_whose_holder_a_paused_batch_has_killed_goes_to_the_newcomer() -> None:
    world = World()
    holder = world.invoke("Cart", "add", key="k")
    world.batch("r1", "kill", ALL, paused=True)
    newcomer = world.invoke("Cart", "add", key="k")
    assert (world.status(holder), world.status(newcomer)) == ("killed", "ready")


def test_a_live_send_in_the_middle_of_an_import_gives_no_key_to_two() -> None:
    world = World()
    waiter = world.import_row("pending", service="Cart", key="k")
    sent = world.invoke("Cart", "add", key="k")
    holder = world.import_row("running", service="Cart", key="k")
    world.append(ImportEnd())
    world.tick_until_idle()
    assert [bool(world.row(id).ties & KEY) for id in (holder, waiter, sent)] == [True, False, False]
    assert (world.status(waiter), world.status(sent)) == ("pending", "pending")
    world.complete(holder)
    assert (world.status(waiter), world.status(sent)) == ("ready", "pending")
