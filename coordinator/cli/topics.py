"""The topics of a log on Kafka: make them, or say in what they differ."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import output, session, settings
from coordinator.cli.session import Exit

if TYPE_CHECKING:
    from coordinator.logs.kafka.topics import Found

group = typer.Typer(name="topics", help="The topics of a log on Kafka.", no_args_is_help=True)


@group.command("create")
def create(
    log: settings.Log = None,
    partitions: settings.Partitions = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(
            "--replication-factor",
            metavar="N",
            min=1,
            help="Copies of each record.  [default: 3, or one for each broker]",
        ),
    ] = None,
    min_insync_replicas: Annotated[
        int | None,
        typer.Option(
            "--min-insync-replicas",
            metavar="N",
            min=1,
            help="How many must have a record before it is acknowledged.  [default: one less than there are copies]",
        ),
    ] = None,
) -> None:
    """Make the topics that are missing, and compare the others with what they have to be.

    Topics that are there are left as they are.
    """
    from coordinator.logs.kafka import SettingsError
    from coordinator.logs.kafka.topics import create_or_verify
    from coordinator.logs.port import LogError, LogUnreachableError

    with session.failures():
        address = settings.log(log)
        if address == "embedded":
            session.fail("the embedded log has no topics; give --log kafka://HOST:PORT", Exit.USAGE)
        cluster = settings.kafka(address)
        try:
            found = create_or_verify(cluster, settings.partitions(partitions), replication_factor, min_insync_replicas)
        except SettingsError as error:
            session.fail(str(error), Exit.USAGE)
        except LogUnreachableError as error:
            session.fail(str(error), Exit.UNREACHABLE)
        except LogError as error:
            session.fail(str(error), Exit.FAILED)
    for topic in found:
        _report(topic)
    if any(topic.differences for topic in found):
        raise typer.Exit(Exit.CONFLICT)


def _report(found: "Found") -> None:
    if not output.for_people():
        output.say(output.json_text(found._asdict()))
    elif not found.differences:
        output.say(f"{found.topic}: {'made' if found.created else 'as it has to be'}, {found.partitions} partitions")
    for difference in found.differences:
        typer.echo(f"{found.topic}: {difference}", err=True)
