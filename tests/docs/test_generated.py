"""The generated parts say what the code does."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model import ids, messages
from coordinator.model.statuses import NAMES, Action, Status
from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Answer
from coordinator.stores.memory import MemoryStore
from tests.docs.pages import generator, page

NOW = 1_790_000_000_000_000
ID = ids.derived_id("docs", 1, "key")
KILL = messages.Act(action=Action.KILL, id=ID)


class Record:
    def __init__(self, position: int, message: messages.Message) -> None:
        self.position = position
        self.appended_at = NOW + position
        self.value = messages.encode(message)


def applied(*commands: messages.Message) -> list[Answer | None]:
    """What a partition answers to these commands, one after another."""
    store = MemoryStore()
    store.begin()
    machine = Machine(store, partition=0, partitions=1)
    return [machine.apply(Record(position, command)) for position, command in enumerate(commands)]


def imported(status: Status) -> messages.Import:
    return messages.Import(
        id=ID, service="Cart", handler="add", key="key", type=1, status=NAMES[status], created_at=NOW,
        modified_at=NOW, due_at=NOW * 2, outcome="success" if status is Status.COMPLETED else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", generator().PARTS)
def test_a_page_has_its_generated_parts_as_make_docs_writes_them(name: str) -> None:
    assert page(name) == generator().rendered(name, page(name)), "run `make docs`"


def test_every_limit_is_described_and_none_that_is_gone() -> None:
    described = [name for section in generator().LIMITS.values() for name in section]
    assert sorted(described) == sorted(generator().limit_names())


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.COUNT])
@pytest.mark.parametrize("status", Status)
def test_a_partition_answers_as_the_table_says(status: Status, action: Action) -> None:
    before = [imported(status)]
    if action is Action.RESTART_AS_NEW and status is Status.COMPLETED:  # one that was imported has no input
        before = [messages.Invoke(id=ID, service="Cart", handler="add", key="key", type=1), KILL]
    answer = applied(*before, messages.Act(action=action, id=ID))[-1]
    assert answer is not None
    assert answer.code == generator().code(status, action)


def test_the_diagram_draws_every_change_of_status() -> None:
    drawn = [line.strip().partition(": ") for line in generator().diagram().splitlines() if "-->" in line]
    edges = {edge: labels.split(", ") for edge, _, labels in drawn}
    for (status, what), change in generator().TRANSITIONS.items():
        if change.to is status:
            continue
        target = "[*]" if change.to is None else NAMES[change.to].replace("-", "_")
        assert str(what) in edges[f"{NAMES[status].replace('-', '_')} --> {target}"]


def invoked(**fields: Any) -> messages.Invoke:
    return messages.Invoke(id=ID, **{"service": "Cart", "handler": "add", "key": "key", "type": 1} | fields)


def act(action: Action, **fields: Any) -> messages.Act:
    return messages.Act(action=action, id=ID, **fields)


ASKED = {
    "any action": [KILL],
    "`resume` with `deployment`": [act(Action.RESUME, deployment="dp_2")],
    "`restart-as-new`": [act(Action.RESTART_AS_NEW)],
    "`cancel`": [act(Action.CANCEL)],
}
OF: dict[str, list[messages.Message]] = {
    "one that is not there, or no longer": [],
    "a paused one, or one that backs off": [imported(Status.PAUSED)],
    "one that is ready, running or suspended": [imported(Status.SUSPENDED)],
    "a completed one of a workflow": [invoked(type=2), KILL],
    "a completed one that was imported": [imported(Status.COMPLETED)],
    "one that was imported as running": [imported(Status.RUNNING)],
    "one that is asked to cancel already": [imported(Status.SUSPENDED), act(Action.CANCEL)],
}


@pytest.mark.parametrize("case", generator().CASES)
def test_a_partition_answers_a_special_case_as_the_table_says(case: tuple[str, str, int, str]) -> None:
    asked, of, code, says = case
    answer = applied(*OF[of], *ASKED[asked])[-1]
    assert answer is not None
    assert answer.code == code
    assert answer.detail is None or says in answer.detail
