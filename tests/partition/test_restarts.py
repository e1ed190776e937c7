"""Restart as new: another invocation with the same input, made from a completed one that stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model import messages
from coordinator.model.filters import Filter
from coordinator.model.invocation import Payload
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.statuses import Action
from tests.partition.world import SECOND, World, keyed

RESTART = Action.RESTART_AS_NEW


def payload(world: World, id: str) -> Payload:
    return world.partitions[0].store.payload(world.row(id).seq)


def completed(world: World, service: str = "Greeter", **fields: Any) -> str:
    id = world.invoke(service, **fields)
    world.complete(id)
    return id


def restarted(world: World) -> list[messages.Invoke]:
    """What the newest record has sent to be created anew, once it has arrived."""
    sent = [command for command in world.commands() if isinstance(command, messages.Invoke)]
    world.settle()
    return sent


def test_another_one_is_made_with_input_headers_key_and_retention() -> None:
    world = World()
    fields = {"key": "cart5", "shared": True, "deployment": "dp_1", "idempotency_key": "once"}
    old = completed(world, "Cart", input=b"in", headers={"a": "b"}, retention=60 * SECOND, **fields)
    answer = world.act(RESTART, old)
    [invoke] = restarted(world)
    assert (answer.code, answer.id, answer.status) == (202, invoke.id, None)
    new, was = world.row(invoke.id), world.row(old)
    same = ("service", "handler", "key", "type", "shared", "retention")
    assert [getattr(new, name) for name in same] == [getattr(was, name) for name in same]
    assert (payload(world, new.id).input, payload(world, new.id).headers) == (b"in", {"a": "b"})
    # What goes to the latest deployment, is nobody's child, and does not answer for the old one:
    assert (new.deployment, new.parent, new.idempotency_key) == (None, None, None)
    assert world.status(new.id) == "ready"


def test_they_are_linked_both_ways_and_the_old_one_names_the_newest() -> None:
    world = World()
    old = completed(world, input=b"in")
    first = world.act(RESTART, old).id
    world.settle()
    second = world.act(RESTART, old).id
    world.settle()
    assert first is not None
    assert second is not None
    assert first != second
    assert payload(world, old).restarted_as == second
    assert [payload(world, id).restarted_from for id in (first, second)] == [old, old]


def test_the_old_one_stays_as_it_is() -> None:
    world = World()
    old = world.invoke(input=b"in")
    world.batch("k", "kill", Filter(ids=(old,)))
    world.settle()
    names = ("status", "outcome", "modified_at", "completed_at", "timer_at", "batch")
    before = [getattr(world.row(old), name) for name in names]
    world.now += SECOND
    world.batch("r", RESTART, Filter(ids=(old,)))
    world.settle()
    assert world.counts("r") == {"matched": 1, "applied": 1}
    assert [getattr(world.row(old), name) for name in names] == before


def test_what_was_called_is_restarted_without_its_parent() -> None:
    world = World()
    parent = world.invoke()
    [child] = world.call(parent, Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick")))
    world.settle()
    world.complete(child)
    world.act(RESTART, child)
    [invoke] = restarted(world)
    assert (invoke.parent, invoke.detached, invoke.depth) == (None, False, 0)
    assert world.row(child).parent == parent
    world.complete(invoke.id)
    assert [command for command in world.commands() if isinstance(command, messages.ChildEnded)] == []


def test_a_workflow_is_not_restarted() -> None:
    world = World()
    run = completed(world, "Flow", key="a", type=2)
    answer = world.act(RESTART, run)
    assert (answer.code, answer.detail) == (
        409, f"{run} cannot be restarted: it belongs to a workflow; restart-as-new does not apply",
    )  # fmt: skip
    world.batch("r", RESTART, Filter(all=True))
    world.settle()
    assert world.counts("r") == {"matched": 1, "not_applicable": 1}


def test_what_was_imported_has_no_input_to_restart_with() -> None:
    world = World()
    old = world.import_row("completed")
    answer = world.act(RESTART, old)
    assert (answer.code, answer.detail) == (
        409,
        f"{old} cannot be restarted: it was imported without its input; start another one with what it was sent",
    )
    world.batch("r", RESTART, Filter(all=True))
    world.settle()
    assert world.counts("r") == {"matched": 1, "failed": 1}


def test_one_without_an_input_is_restarted_without_one() -> None:
    world = World()
    old = completed(world)
    world.act(RESTART, old)
    [invoke] = restarted(world)
    assert invoke.input is None


def test_what_is_sent_is_the_same_whether_or_not_the_row_comes_from_the_file() -> None:
    """A default is left out of a record by identity, and a number that was read is another object."""
    world = World()
    old = completed(world)
    row = world.row(old)
    world.overwrite(old, retention=int(str(row.retention)))
    world.act(RESTART, old)
    [value] = world.of(0)
    assert b"retention" not in value


def test_a_batch_restarts_each_match_once_and_no_other() -> None:
    world = World()
    old = [completed(world, input=b"%d" % n) for n in range(5)]
    live, workflow = world.invoke(), completed(world, "Flow", key="a", type=2)
    imported = world.import_row("completed")
    world.batch("r", RESTART, Filter(all=True))
    late = completed(world)
    world.settle()
    assert world.counts("r") == {"matched": 7, "applied": 5, "not_applicable": 1, "failed": 1}
    made = [payload(world, id).restarted_as for id in old]
    assert all(id is not None and world.status(id) == "ready" for id in made)
    assert [payload(world, id).restarted_as for id in (live, workflow, imported, late)] == [None] * 4


def test_a_dry_run_counts_the_same_and_makes_none() -> None:
    world = World()
    completed(world)
    completed(world, "Flow", key="a", type=2)
    world.import_row("completed")
    before = world.partitions[0].machine.state.next_seq
    world.batch("r", RESTART, Filter(all=True), dry_run=True)
    world.settle()
    assert world.counts("r") == {"matched": 3, "applied": 1, "not_applicable": 1, "failed": 1}
    assert world.partitions[0].machine.state.next_seq == before


def test_a_guarded_batch_restarts_its_members() -> None:
    world = World()
    old = completed(world)
    world.batch("r", RESTART, Filter(all=True), guarded=True)
    world.settle()
    late = completed(world)
    world.append(messages.Commit(request="r", not_after=world.now), to=0)
    world.settle()
    assert world.counts("r") == {"matched": 1, "applied": 1}
    assert payload(world, old).restarted_as is not None
    assert payload(world, late).restarted_as is None


def test_what_is_killed_by_an_earlier_batch_is_restarted_by_a_later_one() -> None:
    world = World()
    id = world.invoke(input=b"in")
    world.batch("k", "kill", Filter(all=True))
    world.batch("r", RESTART, Filter(all=True))
    world.settle()
    assert (world.counts("k"), world.counts("r")) == ({"matched": 1, "ended": 1}, {"matched": 1, "applied": 1})
    new = payload(world, id).restarted_as
    assert new is not None
    assert world.status(new) == "ready"  # it came after both


def test_a_purge_behind_it_takes_the_old_one_and_leaves_the_new_one() -> None:
    world = World()
    old = completed(world)
    world.batch("r", RESTART, Filter(all=True))
    world.batch("p", "purge", Filter(all=True))
    world.settle()
    assert world.find(old) is None
    assert world.counts("r") == {"matched": 1, "applied": 1}
    assert len(world.partitions[0].model.rows) == 1


def test_as_many_batches_as_may_be_pending_restart_one_row_in_one_record() -> None:
    world = World()
    old = completed(world)
    for n in range(64):
        world.batch(f"r{n}", RESTART, Filter(all=True))
    world.act("count", old)
    assert len(restarted(world)) == 64
    world.settle()
    assert len(world.partitions[0].model.rows) == 65


@pytest.mark.parametrize("value", ["x", ""])
def test_an_invocation_that_says_it_is_made_from_none_is_refused(value: str) -> None:
    world = World()
    assert world.answer(messages.Invoke(id=keyed("a", 1), service="S", handler="h", restarted_from=value)).code == 400
