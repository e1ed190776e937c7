"""Waiting for a batch: a bar for people, one JSON object a line for programs."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import typer

from coordinator.cli import output
from coordinator.cli.session import Exit

if TYPE_CHECKING:
    from coordinator.client import Batch, PartitionProgress, Progress

_MOVING: Final = ("running",)
"""States in which what is left of the time can be told from what was."""
_WORDS: Final = (
    ("ended", "ended"),
    ("applied", "applied"),
    ("signalled", "asked to end and still at it"),
    ("ended_by_other", "ended by another"),
    ("already_signalled", "asked before"),
    ("not_applicable", "not applicable"),
    ("failed", "failed"),
    ("propagated", "descendants ended"),
)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


class Display(Protocol):
    """Shows the progress of a batch."""

    def show(self, progress: "Progress") -> None:
        """The newest."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines:
    """One JSON object a line."""

    def show(self, progress: "Progress") -> None:
        """The newest."""
        output.say(output.json_text(progress))

    def close(self) -> None:
        """Nothing more comes."""


class Silence:
    """Nothing at all."""

    def show(self, progress: "Progress") -> None:
        """The newest."""

    def close(self) -> None:
        """Nothing more comes."""


class Bar:
    """A bar with counts, rate and time left."""

    def __init__(self, label: str) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._eta = TimeLeft(time.monotonic)
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}", markup=False),
            console=output.console(),
            transient=True,
        )
        self._task = self._rich.add_task(label, total=1.0, news="")
        self._label = label
        self._rich.start()

    def show(self, progress: "Progress") -> None:
        """The newest."""
        left_s = self._eta.seconds(progress)
        news = [counts(progress), f"{progress.rate_per_s:,.0f}/s"]
        if left_s is not None:
            news.append(f"{clock(left_s)} left")
        if progress.stalled:
            news.append(f"no word from partition {', '.join(str(number) for number in progress.stalled)}")
        label = self._label if progress.state in _MOVING else f"{self._label}, {progress.state}"
        self._rich.update(self._task, completed=fraction(progress), description=label, news=" · ".join(news))

    def close(self) -> None:
        """Nothing more comes."""
        self._rich.stop()


class TimeLeft:
    """Time left of a batch, from what remains where it is counted, else from how fast the cursors move."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None

    def seconds(self, progress: "Progress") -> float | None:
        """None where it cannot be told."""
        if progress.state not in _MOVING:
            self._first = None
            return None
        now, done = self._clock(), fraction(progress)
        if self._first is None:
            self._first = now, done
        if progress.remaining is not None and progress.rate_per_s > 0:
            return progress.remaining / progress.rate_per_s
        since, done_then = self._first
        moved = done - done_then
        return (now - since) * (1 - done) / moved if moved > 0 else None


def fraction(progress: "Progress") -> float:
    """How much of the candidates is decided, 0 to 1."""
    if progress.progress_fraction is not None:
        return progress.progress_fraction
    shares = [one.cursor_fraction for one in progress.partitions]
    return sum(shares) / len(shares) if shares else 0.0


def counts(progress: "Progress | PartitionProgress") -> str:
    """The counts that are not zero: `12 matched, 10 ended, 2 not applicable`."""
    parts = [f"{progress.matched:,} matched"]
    for name, words in _WORDS:
        number = getattr(progress, name)
        if number:
            parts.append(f"{number:,} {words if number > 1 else words.replace('descendants', 'descendant')}")
    return ", ".join(parts)


def grace(progress: "Progress") -> str:
    """What is still to come of a batch that waits for its grace to be over; nothing of any other."""
    if not progress.awaits_grace or progress.grace_s is None:
        return ""
    return f"; what has not ended after {duration(progress.grace_s)} is killed"


def duration(seconds: float) -> str:
    """As one would ask for it: `0.5s`, `90s`, `5m`, `1h`."""
    for unit_s, unit in _UNITS:
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g}{unit}"
    return f"{seconds:g}s"


def clock(seconds: float) -> str:
    """`45 s`, `3:20`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def display(label: str) -> Display:
    """The display that fits where stdout goes."""
    return Bar(label) if output.for_people() else Lines()


async def follow(batch: "Batch", shown: Display) -> "Progress":
    """The batch once it is over, shown on the way. An interrupt leaves it running and says how to watch it."""
    import asyncio

    try:
        async for progress in batch.progress():
            shown.show(progress)
    except asyncio.CancelledError:
        shown.close()
        goes_on(batch.id)
        raise
    finally:
        shown.close()
    return batch.latest


def goes_on(id: str) -> None:
    """Say that the batch does not end with its command."""
    typer.echo(f"Interrupted; batch {id} goes on. Watch it with: coordinator batches watch {id}", err=True)


def report(progress: "Progress", *, waited: bool) -> None:
    """Say how a batch that was submitted has ended, or that it is under way."""
    if waited:
        conclude(progress)
    elif output.for_people():
        output.say(f"{progress.id} is under way; watch it with: coordinator batches watch {progress.id}")
    else:
        output.say(output.json_text(progress))


def conclude(progress: "Progress") -> None:
    """Say how it ended and end the command accordingly."""
    if output.for_people():
        dry = " (dry run: nothing was touched)" if progress.dry_run else ""
        output.say(f"{progress.id} {progress.state}: {counts(progress)}{dry}{grace(progress)}")
    if progress.state == "refused":
        typer.echo(f"Error: the batch was refused and nothing was touched: {progress.refusal or 'no reason'}", err=True)
        raise typer.Exit(Exit.REFUSED)
    if progress.state == "aborted":
        typer.echo("Error: the batch was aborted; what it has done stays done, and all else never had it", err=True)
        raise typer.Exit(Exit.FAILED)
    if progress.state != "completed" or progress.failed:
        typer.echo(f"Error: the batch is {progress.state}; {progress.failed:,} failed", err=True)
        raise typer.Exit(Exit.FAILED)
