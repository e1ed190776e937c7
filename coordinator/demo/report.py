"""What the demo says: stages and bars while it goes, a table at the end; drawn on a terminal, else plain lines."""

import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

_BAR_CHARS: Final = 24
_PLAIN_EVERY_S: Final = 0.75
"""Of a bar's lines, where they cannot be drawn over."""
_PLAIN_CHARS: Final = 110
_INDENT: Final = "   "


class Line(NamedTuple):
    """One line of the table."""

    name: str
    value: str
    note: str = ""
    holds: bool | None = None
    """None where nothing is promised."""

    @property
    def verdict(self) -> str:
        """What stands in front of it."""
        return {True: "ok", False: "FAILED", None: ""}[self.holds]


class Bar(Protocol):
    """How far something is."""

    def show(self, fraction: float, news: str) -> None:
        """From 0 to 1, and in words."""

    def close(self) -> None:
        """Nothing more comes; what was shown last stays."""


class Teller(Protocol):
    """Speaks to whoever started the demo."""

    def stage(self, title: str) -> None:
        """Something new begins."""

    def say(self, text: str) -> None:
        """Some plain words."""

    def bar(self, label: str) -> Bar:
        """A bar that goes from 0 to 1."""

    def table(self, lines: Sequence[Line]) -> None:
        """The result."""

    def conclude(self, text: str, *, good: bool) -> None:
        """The last word."""


def teller() -> Teller:
    """The one that fits where stdout goes."""
    return Drawing() if sys.stdout.isatty() else Plain()


class TimeLeft:
    """Time left, if it goes on as it went."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    def text(self, fraction: float) -> str:
        """`3 s left`, and at the end how long it took."""
        elapsed_s = self._clock() - self._began
        if fraction >= 1.0:
            return f"took {elapsed_s:.1f} s"
        if fraction <= 0.0:
            return "? s left"
        left_s = elapsed_s * (1 - fraction) / fraction
        return f"{left_s:.1f} s left" if left_s < 10 else f"{left_s:.0f} s left"


# -- for files and pipes -------------------------------------------------------------------------------------


class Plain:
    """A line at a time."""

    def __init__(self) -> None:
        self._stages = 0

    def stage(self, title: str) -> None:
        """Something new begins."""
        self._stages += 1
        _print(f"\n{self._stages}. {title}")

    def say(self, text: str) -> None:
        """Some plain words."""
        _print(textwrap.indent(textwrap.fill(text, _PLAIN_CHARS, break_on_hyphens=False), _INDENT))

    def bar(self, label: str) -> Bar:
        """A bar that goes from 0 to 1."""
        return _PlainBar(label)

    def table(self, lines: Sequence[Line]) -> None:
        """The result."""
        name_chars = max(len(line.name) for line in lines)
        value_chars = max(len(line.value) for line in lines)
        for line in lines:
            text = f"{line.verdict:6}  {line.name:{name_chars}}  {line.value:>{value_chars}}  {line.note}"
            _print(_INDENT + text.rstrip())

    def conclude(self, text: str, *, good: bool) -> None:
        """The last word."""
        _print(f"\n{text}")


class _PlainBar:
    def __init__(self, label: str) -> None:
        self._label = label
        self._left = TimeLeft()
        self._next = time.monotonic() + _PLAIN_EVERY_S

    def show(self, fraction: float, news: str) -> None:
        now = time.monotonic()
        if now < self._next and fraction < 1.0:
            return
        self._next = now + _PLAIN_EVERY_S
        full = round(fraction * _BAR_CHARS)
        bar = "#" * full + "." * (_BAR_CHARS - full)
        _print(f"{_INDENT}{self._label} [{bar}] {fraction:4.0%}  {news}, {self._left.text(fraction)}")

    def close(self) -> None:
        pass


def _print(text: str) -> None:
    # At once, for whoever reads the other end of a pipe.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# -- for terminals -------------------------------------------------------------------------------------------


class Drawing:
    """With colours, and bars that are drawn over."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._stages = 0

    def stage(self, title: str) -> None:
        """Something new begins."""
        self._stages += 1
        self._console.print(f"\n[bold cyan]{self._stages}.[/] [bold]{title}[/]")

    def say(self, text: str) -> None:
        """Some plain words."""
        self._console.print(Padding(Text(text), (0, 0, 0, len(_INDENT))))

    def bar(self, label: str) -> Bar:
        """A bar that goes from 0 to 1."""
        return _DrawnBar(label, self._console)

    def table(self, lines: Sequence[Line]) -> None:
        """The result."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(style="dim")
        for line in lines:
            failed = line.holds is False
            verdict = Text(line.verdict, style="bold red" if failed else "green")
            table.add_row(verdict, Text(line.name), Text(line.value, style="bold red" if failed else "bold"), line.note)
        self._console.print(Padding(table, (0, 0, 0, len(_INDENT))))

    def conclude(self, text: str, *, good: bool) -> None:
        """The last word."""
        self._console.print(Text(f"\n{text}", style="bold green" if good else "bold red"))


class _DrawnBar:
    def __init__(self, label: str, console: Console) -> None:
        self._left = TimeLeft()
        self._rich = Progress(
            TextColumn(_INDENT + "{task.description}", markup=False),
            BarColumn(bar_width=_BAR_CHARS),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[news]}", markup=False),
            console=console,
        )
        self._task = self._rich.add_task(label, total=1.0, news="")
        self._rich.start()

    def show(self, fraction: float, news: str) -> None:
        self._rich.update(self._task, completed=fraction, news=f"{news}, {self._left.text(fraction)}")

    def close(self) -> None:
        self._rich.stop()
