"""Tables of invocations, batches, partitions and snapshots, for people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from coordinator.cli import output
from coordinator.cli.watching import counts, duration, grace

if TYPE_CHECKING:
    from rich.table import Table

    from coordinator.cli.snapshots import SnapshotInfo
    from coordinator.client import Invocation, PartitionInfo, Progress

_COLOURS: Final = {
    "running": "green",
    "ready": "green",
    "backing-off": "yellow",
    "paused": "yellow",
    "suspended": "cyan",
    "failure": "red",
    "killed": "red",
    "cancelled": "magenta",
    "completed": "bright_black",
    "success": "bright_black",
    "completed-with-failures": "red",
    "refused": "red",
    "aborted": "magenta",
}
_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_WIDTHS: Final = {"ID": 38, "STATUS": 11, "AGE": 4, "RETRY": 5}


class InvocationTable:
    """Invocations page by page; the columns stay where the first page has put them."""

    def __init__(self) -> None:
        self._console = output.console()
        self._headed = False

    def write(self, page: Iterable["Invocation"]) -> None:
        """Some more rows."""
        now = datetime.now(UTC)
        table = _table("ID", "TARGET", "STATUS", "AGE", "RETRY", rest="TARGET", widths=_WIDTHS)
        table.show_header = not self._headed
        self._headed = True
        for one in page:
            status = one.outcome or one.status
            table.add_row(one.id, _text(one.target), _coloured(status), age(one.created_at, now), str(one.retry or ""))
        self._console.print(table)

    def close(self, found: int) -> None:
        """How many there were."""
        self._console.print(f"{found:,} invocation{'' if found == 1 else 's'}")


def show_batches(batches: Sequence["Progress"]) -> None:
    """All batches, one a line."""
    now = datetime.now(UTC)
    table = _table("ID", "ACTION", "STATE", "AGE", "COUNTS", rest="COUNTS")
    for one in batches:
        action = f"{one.action}?" if one.dry_run else one.action
        table.add_row(_text(one.id), action, _coloured(one.state), age(one.submitted_at, now), counts(one))
    output.console().print(table)


def show_batch(batch: "Progress") -> None:
    """One batch and its share on each partition."""
    now = datetime.now(UTC)
    out = output.console()
    dry = " (dry run)" if batch.dry_run else ""
    out.print(f"[bold]{_text(batch.id)}[/]  {_text(batch.action)}{dry}  {_coloured(batch.state)}")
    described = {
        "filter": output.json_text(batch.filter),
        "reason": batch.reason,
        "grace": None if batch.grace_s is None else duration(batch.grace_s),
        "retry of": batch.retry_of,
        "refusal": batch.refusal,
    }
    for name, text in described.items():
        if text:
            out.print(f"{name}: {_text(text)}")
    out.print(
        f"submitted {age(batch.submitted_at, now)} ago by {_text(batch.principal)}; {counts(batch)}{grace(batch)}"
    )
    table = _table("PARTITION", "STATE", "POSITION", "DONE", "HEARD", "COUNTS", rest="COUNTS")
    for one in batch.partitions:
        # What was aborted is decided everywhere, but 100% would say that it was done.
        done = "" if one.state == "aborted" else f"{one.cursor_fraction:.0%}"
        heard = "" if one.last_heard_at is None else age(one.last_heard_at, now)
        position = "" if one.position is None else str(one.position)
        table.add_row(str(one.partition), _coloured(one.state), position, done, heard, counts(one))
    out.print(table)


def show_partitions(partitions: Sequence["PartitionInfo"]) -> None:
    """All partitions, one a line, with what is in force on them."""
    out = output.console()
    table = _table("PARTITION", "OWNER", "POSITION", "LAG", "WORK", "PENDING BATCHES", rest="PENDING BATCHES")
    for one in partitions:
        pending = ", ".join(
            f"{batch.id} {'paused at ' if batch.paused else ''}{batch.cursor_fraction:.0%}" for batch in one.pending
        )
        owner = "[red]stands still[/]" if one.failure else _text(one.owner or "nobody")
        table.add_row(str(one.partition), owner, str(one.position), str(one.lag), str(one.works), _text(pending))
    out.print(table)
    for one in partitions:
        if one.failure:
            out.print(f"[red]partition {one.partition} stands still:[/] {_text(one.failure)}", soft_wrap=True)


def show_snapshots(snapshots: Sequence["SnapshotInfo"]) -> None:
    """All snapshots, one a line."""
    now = datetime.now(UTC)
    table = _table("LOG", "PARTITION", "POSITION", "AGE", "SIZE", "SHA-256", rest="SHA-256")
    for one in snapshots:
        size = f"{one.bytes / 2**20:,.1f} MiB"
        table.add_row(
            _text(one.log), str(one.partition), str(one.position), age(one.made_at, now), size, one.sha256[:16]
        )
    output.console().print(table)


def age(since: str, now: datetime) -> str:
    """How long ago that was: `12s`, `3h`. Nothing where it cannot be told."""
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except ValueError:
        return ""
    for unit_s, unit in _AGES:
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit}"
    return "now"


def _table(*columns: str, rest: str, widths: Mapping[str, int] = MappingProxyType({})) -> "Table":
    """A table in which the column `rest` has what is left of the window, and no other is broken.

    Columns with a width have it whatever they hold, so that one page looks like the next.
    """
    from rich.table import Table

    window = output.for_people()
    table = Table(box=None, pad_edge=False, expand=window, header_style="bold")
    for name in columns:
        if name == rest and window:
            table.add_column(name, ratio=1, overflow="fold")
        else:
            table.add_column(name, width=widths.get(name), no_wrap=True)
    return table


def _text(text: str) -> str:
    """Text of others, in which nothing is markup."""
    from rich.markup import escape

    return escape(text)


def _coloured(status: str) -> str:
    colour = _COLOURS.get(status)
    return f"[{colour}]{status}[/]" if colour else _text(status)
