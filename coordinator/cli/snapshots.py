"""`coordinator snapshot`: make, list, verify and restore snapshots of partitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import output, session, settings
from coordinator.cli.output import Format, Output
from coordinator.cli.session import Exit
from coordinator.model.errors import CallerError, ConflictError, CorruptionError

if TYPE_CHECKING:
    from coordinator.logs.port import ReadableLog
    from coordinator.stores.archive import Listed, SnapshotArchive

group = typer.Typer(help="Make snapshots of partitions, and restore from them.", no_args_is_help=True)

Partition = Annotated[
    list[int] | None,
    typer.Option("--partition", metavar="N", min=0, help="Only of this partition; repeat it for several."),
]


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot, for whoever lists them."""

    log: str
    """Identity of the log that it was made from."""
    partition: int
    position: int
    """Of the last record that is applied in it."""
    made_at: str
    """RFC 3339."""
    bytes: int
    sha256: str


@group.command("create")
def create(data: settings.Data = None, snapshots: settings.SnapshotsTo = None, partition: Partition = None) -> None:
    """Snapshot the stores now, beside a live server or without one.

    Nothing is removed, and the log is not trimmed.
    """
    from tempfile import TemporaryDirectory

    from coordinator.runtime.layout import DataDirectory
    from coordinator.runtime.snapshots import making

    with session.failures():
        archive = _archive(snapshots, make=True)
        directory = DataDirectory(settings.data(data))
        numbers = partition or directory.stores()
        if not numbers:
            raise CallerError(f"there is no store in {directory.path}; give --data the directory of the server")
        for number in numbers:
            with TemporaryDirectory(prefix="coordinator-snapshot-") as folder:
                name = making.create(directory.store(number), archive, Path(folder) / "copy")
            _say(f"partition {number}: position {name.position}", partition=number, position=name.position)


@group.command("list")
@group.command("ls", hidden=True)
def list_(snapshots: settings.SnapshotsFrom = None, partition: Partition = None, output_format: Output = None) -> None:
    """List the snapshots, the newest of each partition first.  [also: ls]"""
    with session.failures():
        found = [_info(listed) for listed in _listed(_archive(snapshots), partition)]
    format = output.chosen(output_format)
    if format is Format.TABLE:
        from coordinator.cli.tables import show_snapshots

        show_snapshots(found)
        return
    writer = output.JsonArray() if format is Format.JSON else output.JsonLines()
    writer.write(found)
    writer.close(len(found))


@group.command("verify")
def verify(snapshots: settings.SnapshotsFrom = None, partition: Partition = None) -> None:
    """Fetch the snapshots and see whether each is what it says.

    Whether its rows are right is for `check` to say.
    """
    from tempfile import TemporaryDirectory

    from coordinator.runtime.snapshots.making import fetch

    good = True
    with session.failures():
        archive = _archive(snapshots)
        for name, *_ in _listed(archive, partition):
            with TemporaryDirectory(prefix="coordinator-snapshot-") as folder:
                try:
                    fetch(name, archive, Path(folder))
                except CorruptionError as error:
                    good = False
                    typer.echo(f"Error: {error}", err=True)
                    continue
            text = f"partition {name.partition}: the snapshot at position {name.position} is good"
            _say(text, log=name.log, partition=name.partition, position=name.position)
    if not good:
        raise typer.Exit(Exit.FAILED)


@group.command("restore")
def restore(
    *,
    data: settings.Data = None,
    log: settings.Log = None,
    snapshots: settings.SnapshotsFrom = None,
    partition: Partition = None,
) -> None:
    """Make stores that are missing from the newest good snapshots of this log.

    A server that is started with --snapshots does so by itself. A store that is there is left alone.
    """
    from coordinator.runtime.layout import DataDirectory
    from coordinator.runtime.logging import configure_logging
    from coordinator.runtime.snapshots import recovery
    from coordinator.stores.lock import StoreLock

    configure_logging()  # what is passed over is said there
    missing = False
    directory = DataDirectory(settings.data(data))
    with session.failures(), session.failures_of_log(), session.reading(log, directory) as source:
        archive = _archive(snapshots)
        directory.make()
        for number in _chosen(partition, source):
            lock = StoreLock(directory.store(number))
            try:
                if recovery.stored_state(directory.store(number)) is not None:
                    if partition:
                        raise ConflictError(f"partition {number} has a store; move it and the files beside it away")
                    _say(f"partition {number}: has a store, left alone", partition=number, position=None)
                    continue
                name = recovery.restore(directory, source, number, archive)
            finally:
                lock.release()
            if name is None:
                missing = True
                typer.echo(f"Error: no snapshot of partition {number} in {archive.place} can be used", err=True)
            else:
                _say(f"partition {number}: position {name.position}", partition=number, position=name.position)
    if missing:
        raise typer.Exit(Exit.NOT_FOUND)


def _archive(given: str | None, *, make: bool = False) -> "SnapshotArchive":
    from coordinator.stores.archive import SnapshotArchive

    place = settings.snapshots(given)
    if place is None:
        raise CallerError("say where snapshots are: --snapshots DIRECTORY, or --snapshots s3://BUCKET/PREFIX")
    return SnapshotArchive(place, make=make)


def _chosen(partitions: list[int] | None, log: "ReadableLog") -> list[int]:
    from coordinator.logs.port import Stream

    there = range(log.partitions(Stream.COMMANDS))
    for number in partitions or ():
        if number not in there:
            raise CallerError(f"there is no partition {number}; there are {len(there)}, from 0 on", field="partition")
    return partitions or list(there)


def _listed(archive: "SnapshotArchive", partitions: list[int] | None) -> "list[Listed]":
    return [listed for listed in archive.list() if not partitions or listed.name.partition in partitions]


def _info(listed: "Listed") -> SnapshotInfo:
    from coordinator.model.times import to_rfc3339

    name, size, at = listed
    return SnapshotInfo(name.log, name.partition, name.position, to_rfc3339(at), size, name.sha256)


def _say(text: str, **facts: object) -> None:
    output.say(text if output.for_people() else output.json_text(facts))
