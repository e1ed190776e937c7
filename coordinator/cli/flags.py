"""Flags that several commands share, as dataclasses, and the decorator that spreads them for Typer.

Typer reads a command's flags from its signature, one parameter each; fifteen filters times six commands would
be the same text again and again.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Final, get_type_hints

import typer

from coordinator.cli import settings

TIME: Final = "RFC 3339, or an age such as 2h or 7d."


@dataclass(frozen=True, kw_only=True)
class FilterFlags:
    """Conditions on invocations; all that are given must hold."""

    service: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this service.")] = None
    handler: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this handler.")] = None
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only of this key.")] = None
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help="Only in this status; repeat it for several: scheduled, pending, ready, running, backing-off, "
            "suspended, paused, completed.",
        ),
    ] = None
    on_deployment: Annotated[str | None, typer.Option(metavar="ID", help="Only on this deployment.")] = None
    created_before: Annotated[str | None, typer.Option(metavar="TIME", help=TIME)] = None
    created_after: Annotated[str | None, typer.Option(metavar="TIME", help="Then or later. " + TIME)] = None
    modified_before: Annotated[str | None, typer.Option(metavar="TIME", help=TIME)] = None
    modified_after: Annotated[str | None, typer.Option(metavar="TIME", help="Then or later. " + TIME)] = None
    all: Annotated[bool, typer.Option("--all", help="Every one, where nothing else is said.")] = False


@dataclass(frozen=True, kw_only=True)
class BatchFlags:
    """How a batch is to be done."""

    request_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Name of the batch; given again with the same flags it is the same batch."),
    ] = None
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Recorded with the batch.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what it would do and do nothing.")] = False
    expect: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Touch nothing unless exactly so many match.")
    ] = None
    max: Annotated[int | None, typer.Option(metavar="N", min=0, help="Touch nothing if more than so many match.")] = (
        None
    )
    rate: Annotated[int | None, typer.Option(metavar="N", min=0, help="So many invocations a second at most.")] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
    wait: Annotated[bool, typer.Option(help="Wait until the batch is completed.")] = True

    @property
    def plain(self) -> bool:
        """Whether nothing is asked that only a batch can do."""
        return self == BatchFlags(yes=self.yes, wait=self.wait)


@dataclass(frozen=True, kw_only=True)
class SnapshotFlags:
    """Snapshots that the server makes by itself."""

    snapshots: settings.Snapshots = None
    snapshot_records: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            envvar="COORDINATOR_SNAPSHOT_RECORDS",
            min=1,
            help="Snapshot a partition after so many records.  [default: 1000000]",
        ),
    ] = None
    snapshot_interval: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            envvar="COORDINATOR_SNAPSHOT_INTERVAL",
            help="Or after so long, if there were any records.  [default: 1h]",
        ),
    ] = None
    snapshot_keep: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            envvar="COORDINATOR_SNAPSHOT_KEEP",
            min=2,
            help="How many stay; the log is trimmed below the oldest of them.  [default: 2]",
        ),
    ] = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a dataclass of flags replaced by its fields."""
    groups: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(parameter.annotation):
            assert isinstance(parameter.annotation, type)
            groups[parameter.name] = parameter.annotation
            flat += _parameters(parameter.annotation)
        else:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    spread.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return spread


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]
