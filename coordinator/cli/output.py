"""What goes to stdout: JSON for programs, words and tables for people."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


Output = Annotated[
    Format | None,
    typer.Option("--output", "-o", help="How to answer.  [default: table on a terminal, else json]"),
]

_WIDE = 250
"""Columns of a table that goes to a file, where nothing is cut to fit a window."""


def for_people() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def chosen(given: Format | None) -> Format:
    """The format that was asked for, or the one that fits where stdout goes."""
    return given or (Format.TABLE if for_people() else Format.JSON)


def json_text(value: Any) -> str:
    """The value on one line."""
    import msgspec

    return msgspec.json.encode(value).decode()


def say(text: str) -> None:
    """One line on stdout, there at once for whoever reads the other end."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_bytes(data: bytes) -> None:
    """Bytes on stdout, as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def console() -> "Console":
    """A console on stdout."""
    from rich.console import Console

    return Console(highlight=False, width=None if for_people() else _WIDE)


class Writer(Protocol):
    """Writes a listing while it comes, so that it need not fit in memory."""

    def write(self, values: Iterable[Any]) -> None:
        """Some more of it."""

    def close(self, found: int) -> None:
        """That was all."""


class JsonArray:
    """One array."""

    def __init__(self) -> None:
        self._before = "["

    def write(self, values: Iterable[Any]) -> None:
        """Some more elements."""
        for value in values:
            sys.stdout.write(self._before + json_text(value))
            self._before = ",\n"

    def close(self, found: int) -> None:
        """The end of the array."""
        say("]" if found else "[]")


class JsonLines:
    """One element a line."""

    def write(self, values: Iterable[Any]) -> None:
        """Some more elements."""
        for value in values:
            sys.stdout.write(json_text(value) + "\n")

    def close(self, found: int) -> None:
        """The end, there at once."""
        sys.stdout.flush()


def show_one(value: Any, format: Format) -> None:
    """One object: its fields line by line, or JSON."""
    if format is not Format.TABLE:
        say(json_text(value))
        return
    import msgspec

    fields = {name: shown for name, shown in msgspec.to_builtins(value).items() if shown not in (None, "", [], {})}
    width = max(len(name) for name in fields)
    for name, shown in fields.items():
        say(f"{name.replace('_', ' '):{width}}  {shown if isinstance(shown, str) else json_text(shown)}")
