import logging
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from coordinator.runtime.logging import AGAIN_S, Libraries


@pytest.fixture
def said() -> Iterator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


def record(text: str, *about: object, at: float = 0.0, name: str = "library") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "", 0, text, about, None)
    made.created = at
    return made


def test_what_a_library_says_again_is_said_now_and_then_with_how_often(said: list[EventDict]) -> None:
    libraries = Libraries()
    for number in range(100):
        libraries.handle(record("no way to node %s", number, at=number * 0.01))
    libraries.handle(record("no way to node %s", 7, at=AGAIN_S))
    libraries.handle(record("no way to node %s", 8, at=2 * AGAIN_S))
    assert [(one["event"], one.get("unsaid", 0)) for one in said] == [
        ("no way to node 0", 0),
        ("no way to node 7", 99),
        ("no way to node 8", 0),
    ]


def test_what_is_new_is_said_at_once(said: list[EventDict]) -> None:
    libraries = Libraries()
    for one in (record("a"), record("b"), record("a", name="another"), record("a")):
        libraries.handle(one)
    assert [(one["library"], one["event"]) for one in said] == [("library", "a"), ("library", "b"), ("another", "a")]


def test_an_exception_is_said_with_its_traceback(said: list[EventDict]) -> None:
    libraries = Libraries()
    try:
        raise ValueError("lost")
    except ValueError as error:
        libraries.handle(logging.LogRecord("library", 40, "", 0, "it failed", (), (ValueError, error, None)))
    assert isinstance(said[0]["exc_info"][1], ValueError)
