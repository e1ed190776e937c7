"""The page about participants says what is so: its programs run, and its tables are complete."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from coordinator.model import limits
from coordinator.participant import CallFailed, Context, Service, serve
from coordinator.participant.services import RetryPolicy
from tests.docs.pages import page
from tests.participant.script import Partition

PAGE = page("participants.md")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def names_of(program: int) -> dict[str, Any]:
    """What a program on the page defines."""
    names: dict[str, Any] = {"__name__": "participant"}
    exec(PROGRAMS[program], names)
    return names


@pytest.mark.parametrize("program", range(len(PROGRAMS)))
def test_every_program_can_be_run(program: int) -> None:
    assert names_of(program)


def test_the_first_program_greets() -> None:
    partition = Partition(names_of(0)["greeter"], "greet", b'"Ada"')
    partition.run().settle()
    partition.now += limits.SECOND_US
    running = partition.run()
    running.settle()
    running.end_call(1, b'"Ada Lovelace"')
    running.settle()
    assert partition.completed.output == b'"Hello Ada Lovelace"'


def test_the_trip_is_undone_backwards_when_it_is_cancelled() -> None:
    service = Service("Trips")
    service.handler(next(names["book"] for names in map(names_of, range(len(PROGRAMS))) if "book" in names))
    partition = Partition(service, "book", b'{"flight":"f","hotel":"h","price":1}')
    running = partition.run()
    running.settle()
    running.end_call(0)
    running.settle()
    running.signal()
    for step in (3, 4):
        running.settle()
        running.end_call(step)
    running.settle()
    called = [step.call.service + "/" + step.call.handler for step in partition.steps if step.call is not None]
    assert called == ["Flights/reserve", "Hotels/reserve", "Hotels/release", "Flights/release"]
    assert partition.completed.outcome == "cancelled"


def test_every_option_of_serving_is_on_the_page() -> None:
    options = [name for name, parameter in inspect.signature(serve).parameters.items() if parameter.kind == 3]
    assert [name for name in options if f"| `{name}` |" not in PAGE] == []


def test_the_defaults_of_the_retry_policy_are_on_the_page() -> None:
    policy = RetryPolicy()
    shown = {name: f"{value}".replace("ms", " ms").replace("10s", "10 s") for name, value in policy._asdict().items()}
    shown["factor"] = "2"
    assert [name for name, value in shown.items() if f"| `{name}` | {value} |" not in PAGE] == []


def test_everything_that_a_context_has_is_on_the_page() -> None:
    async def greet(ctx: Context) -> list[str]:
        return [name for name in dir(ctx) if not name.startswith("_")]

    service = Service("Greeter")
    service.handler(greet)
    partition = Partition(service, "greet")
    partition.run().settle()
    names = partition.completed.output or b""
    assert [name for name in re.findall(r'"(\w+)"', names.decode()) if f"ctx.{name}" not in PAGE] == []


def test_everything_that_a_failed_call_has_is_on_the_page() -> None:
    assert [name for name in vars(CallFailed("t", "i", "failure", None)) if f"`{name}`" not in PAGE] == []


def test_the_size_of_an_input_is_what_the_page_says() -> None:
    assert f"{limits.CALL_BYTES_MAX // 1024} KiB each" in PAGE
