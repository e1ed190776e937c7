"""`coordinator import`: stream a file to the server, its times moved to now if that is asked.

Nothing of the file is held but the piece under way. Moving the times takes two passes, one to find the newest,
so what can be read only once is spooled to disk first.
"""

import contextlib
import gzip
import io
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

from coordinator.cli import output, session
from coordinator.cli.session import Exit
from coordinator.cli.settings import Url
from coordinator.model import limits
from coordinator.model.errors import CallerError, CoordinatorError

if TYPE_CHECKING:
    from coordinator.client import ImportReport

_PIECE_BYTES: Final = 64 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
Peekable = io.BufferedReader | io.BufferedRandom


class Readable(Protocol):
    """What lines and pieces can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""

    def readline(self, size: int, /) -> bytes:
        """A line, or so many bytes of it."""


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, .gz too; - is stdin.")],
    rebase_times: Annotated[
        bool, typer.Option("--rebase-times", help="Move all times so that the newest modified_at is now.")
    ] = False,
    url: Url = None,
) -> None:
    """Import rows of Restate's sys_invocation.

    One JSON object a line, its columns as Restate names them. Invocations that are there already are left
    alone. Without --rebase-times, timers that are due fire.
    """
    with session.failures(), contextlib.ExitStack() as stack:
        raw = _opened(file, stack)
        if rebase_times:
            raw = _rewindable(raw, stack)
            with _whole(file):
                offset_us = _offset_us(_unpacked(raw))
            raw.seek(0)
            pieces = moved(_unpacked(raw), offset_us)
        else:
            pieces = _pieces(_unpacked(raw))
        shown = _metered(_checked(pieces, file), raw)
        report = session.run(url, lambda client: client.import_rows(shown))
    _conclude(report)


# -- reading -------------------------------------------------------------------------------------------------


def _opened(name: str, stack: contextlib.ExitStack) -> Peekable:
    if name == "-":
        assert isinstance(sys.stdin.buffer, io.BufferedReader)
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(name, "rb"))
    except OSError as error:
        raise CallerError(f"{name} cannot be read: {error.strerror}", field="file") from None


def _rewindable(raw: Peekable, stack: contextlib.ExitStack) -> Peekable:
    """The same, or a copy on disk of what can be read only once."""
    if raw.seekable():
        return raw
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    assert isinstance(spool, io.BufferedRandom)
    shutil.copyfileobj(raw, spool)
    spool.seek(0)
    return spool


def _unpacked(raw: Peekable) -> Peekable | gzip.GzipFile:
    """What it holds, unpacked if it is gzip, whatever it is called."""
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP_MAGIC else raw


@contextlib.contextmanager
def _whole(name: str) -> Iterator[None]:
    """A packed file that breaks off is an error of the file, to be said as one."""
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        raise CoordinatorError(
            f"{name} cannot be read to its end ({error}); import it again when it is whole, and what was imported "
            "is left alone"
        ) from None


def _checked(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    with _whole(name):
        yield from pieces


def _pieces(file: Readable) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


# -- moving times --------------------------------------------------------------------------------------------


def _lines(file: Readable) -> Iterator[bytes]:
    """Lines; one that is too long to be a record comes in parts, which nothing can be made of and nobody holds."""
    return iter(lambda: file.readline(limits.RECORD_BYTES_MAX), b"")


def _offset_us(file: Readable) -> int:
    """From the newest `modified_at` to now."""
    from coordinator.model.restate_rows import modified_at

    newest = max((at for line in _lines(file) if (at := modified_at(line)) is not None), default=None)
    return 0 if newest is None else time.time_ns() // 1_000 - newest


def moved(file: Readable, offset_us: int) -> Iterator[bytes]:
    """The lines with their times moved, several in a piece. Lines that are no rows stay as and where they are."""
    from coordinator.model.restate_rows import rebase_line

    held: list[bytes] = []
    size = 0
    for line in _lines(file):
        changed = rebase_line(line, offset_us)
        held.append(changed if changed.endswith(b"\n") or not line.endswith(b"\n") else changed + b"\n")
        size += len(changed)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


# -- telling -------------------------------------------------------------------------------------------------


def _metered(pieces: Iterator[bytes], raw: Peekable) -> Iterable[bytes]:
    """The same pieces, with a bar for a person that shows how much of the file is sent."""
    if not output.for_people():
        return pieces
    size = os.fstat(raw.fileno()).st_size if raw.seekable() else None
    return _bar(pieces, raw, size)


def _bar(pieces: Iterator[bytes], raw: Peekable, size: int | None) -> Iterator[bytes]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=output.console(), transient=True) as progress:
        task = progress.add_task("importing", total=size)
        for piece in pieces:
            yield piece
            if size is not None:
                progress.update(task, completed=raw.tell())


def _conclude(report: "ImportReport") -> None:
    """Say what came of it and end the command accordingly."""
    if output.for_people():
        output.say(f"{report.imported:,} imported, {report.existing:,} were there before, {report.failed:,} failed")
    else:
        output.say(output.json_text(report))
    for fault in report.errors:
        typer.echo(f"line {fault.line}: {fault.reason}", err=True)
    unsaid = report.failed - len(report.errors)
    if unsaid > 0:
        typer.echo(f"and {unsaid:,} more lines", err=True)
    if report.failed:
        raise typer.Exit(Exit.FAILED)
