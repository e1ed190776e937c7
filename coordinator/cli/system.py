"""The server itself: see it at work, run it, look at its partitions, check its data."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import output, session, settings
from coordinator.cli.flags import SnapshotFlags, grouped
from coordinator.cli.output import Format, Output
from coordinator.cli.session import Exit

if TYPE_CHECKING:
    from coordinator.runtime.check import PartitionCheck


def demo(
    seed: Annotated[int, typer.Option(metavar="N", help="Of all that is random in it.")] = 1,
    invocations: Annotated[int, typer.Option(metavar="N", min=1_000, help="How many at least.")] = 100_000,
    log: Annotated[str, typer.Option(metavar="LOG", help="embedded, or kafka://HOST:PORT.")] = settings.EMBEDDED,
) -> None:
    """Show the main job on real data, from nothing, in under a minute.

    Starts a server in a temporary folder, imports a hundred thousand invocations, kills half of them with one
    command while live ones flow, and counts by hand whether all that is promised holds. Fails if it does not. On
    Kafka four processes are the server, with topics of their own that are deleted again.
    """
    from coordinator.demo.run import demo as run

    with session.failures(), session.failures_of_log():
        kafka = None if log == settings.EMBEDDED else settings.kafka(log)
        if not run(seed=seed, invocations=invocations, kafka=kafka):
            raise typer.Exit(Exit.FAILED)


@grouped
def serve(
    *,
    flags: SnapshotFlags,
    data: settings.Data = None,
    partitions: settings.Partitions = None,
    listen: settings.Listen = None,
    log: settings.Log = None,
    roles: settings.Roles = None,
    advertise: settings.Advertise = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Everything that was acknowledged is there at the next start, however it ends. With --snapshots it makes snapshots
    of its partitions and trims the log below the oldest that it keeps. On Kafka any number of processes are one
    server, each with the roles that it is given.
    """
    from coordinator.http.serve import Settings
    from coordinator.http.serve import serve as run

    with session.failures(), session.failures_of_log():
        where = settings.log(log)
        run(
            Settings(
                data=settings.data(data),
                partitions=settings.partitions(partitions),
                listen=settings.listen(listen),
                kafka=None if where == settings.EMBEDDED else settings.kafka(where),
                roles=settings.roles(roles),
                advertise=settings.advertise(advertise),
                snapshots=settings.snapshot_policy(flags),
            )
        )


def partitions(output_format: Output = None, url: settings.Url = None) -> None:
    """Show the partitions.

    Positions, owners, lag, and the batches in force with their cursors.
    """
    found = session.run(url, lambda client: client.partitions())
    format = output.chosen(output_format)
    if format is Format.TABLE:
        from coordinator.cli.tables import show_partitions

        show_partitions(found)
        return
    writer = output.JsonArray() if format is Format.JSON else output.JsonLines()
    writer.write(found)
    writer.close(len(found))


def check(data: settings.Data = None, log: settings.Log = None, snapshots: settings.Snapshots = None) -> None:
    """Replay the log and compare it with the stores.

    Works beside a live server, at what it has applied, and without one. A log that was trimmed is replayed from a
    snapshot.
    """
    from coordinator.model.errors import CallerError
    from coordinator.runtime.check import check as check_partitions
    from coordinator.runtime.layout import DataDirectory
    from coordinator.stores.archive import SnapshotArchive

    equal = True
    with session.failures(), session.failures_of_log():
        place, directory = settings.snapshots(snapshots), DataDirectory(settings.data(data))
        archive = None if place is None else SnapshotArchive(place, make=False)
        with session.reading(log, directory) as source:
            if not directory.stores():
                raise CallerError(f"there is no store in {directory.path}; give --data a worker's directory")
            for found in check_partitions(directory, source, archive):
                equal = equal and not found.differences
                _report(found)
    if not equal:
        raise typer.Exit(Exit.FAILED)


def _report(found: "PartitionCheck") -> None:
    if not output.for_people():
        output.say(output.json_text(found._asdict()))
    elif found.log_begins >= 0:
        where = f"left behind at {found.position} and the log begins at {found.log_begins}"
        output.say(f"partition {found.partition} was {where}: nothing to compare it with")
    elif found.position < 0 and not found.rows and not found.differences:
        output.say(f"partition {found.partition}: no store here")
    elif not found.differences:
        since = f", replayed from the snapshot at {found.since}" if found.since >= 0 else ""
        output.say(f"partition {found.partition}: {found.rows:,} facts equal at position {found.position}{since}")
    for difference in found.differences:
        typer.echo(f"partition {found.partition} at position {found.position}: {difference}", err=True)
