"""`coordinator invocations`: start, list and describe them, and act on one or on many."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli import acting, output, selection, session
from coordinator.cli.flags import BatchFlags, FilterFlags, grouped
from coordinator.cli.output import Format, Output
from coordinator.cli.settings import Url
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.times import parse_duration

if TYPE_CHECKING:
    from coordinator.client import Client

group = typer.Typer(
    help="Start, list, describe and end invocations.  [also: inv]",
    no_args_is_help=True,
)

_QUERY: Final = "An id (inv_…), Service, Service/handler, Object/key or Object/key/handler."
Queries = Annotated[list[str] | None, typer.Argument(metavar="QUERY", help=_QUERY + " Several ids are one batch.")]
Query = Annotated[str | None, typer.Argument(metavar="QUERY", help=_QUERY)]
Id = Annotated[str, typer.Argument(metavar="ID", help="An invocation's id, inv_…")]


@group.command("start")
def start(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Service/handler or Object/key/handler.")],
    input: Annotated[str | None, typer.Option(metavar="JSON", help="What the handler is given.")] = None,
    delay: Annotated[str | None, typer.Option(metavar="DURATION", help="Start it later: 10s, 1h.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A repeated start with this key is answered with the first one's id."),
    ] = None,
    url: Url = None,
) -> None:
    """Start an invocation."""
    with session.failures():
        given = None if input is None else _json(input)
    acted = session.run(url, lambda client: client.start(target, given, delay=delay, idempotency_key=idempotency_key))
    output.say(acted.id if output.for_people() else output.json_text(acted))


@group.command("list")
@group.command("ls", hidden=True)
@grouped
def list_(
    filters: FilterFlags,
    query: Query = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="So many at most.  [default: all]")] = None,
    output_format: Output = None,
    url: Url = None,
) -> None:
    """List invocations of all statuses, newest first.  [also: ls]"""
    with session.failures():
        filter = selection.filter_of([query] if query else [], filters)
    writer = _writer(output.chosen(output_format))

    async def write(client: "Client") -> None:
        found = 0
        async for page in client.invocation_pages(filter, limit=limit):
            writer.write(page)
            found += len(page)
        writer.close(found)

    session.run(url, write)


@group.command("describe")
def describe(id: Id, output_format: Output = None, url: Url = None) -> None:
    """Show one invocation."""
    output.show_one(session.run(url, lambda client: client.invocation(id)), output.chosen(output_format))


@group.command("output")
def output_(
    id: Id,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Wait so long at most: 10s, 5m.")] = None,
    url: Url = None,
) -> None:
    """Wait until one has ended, and print what it has returned."""
    with session.failures():
        timeout_s = None if timeout is None else parse_duration(timeout) / limits.SECOND_US
    returned = session.run(url, lambda client: client.output(id, timeout_s=timeout_s))
    if isinstance(returned, bytes):
        output.say_bytes(returned)
    elif returned is not None:
        output.say(output.json_text(returned))


@group.command("cancel")
@grouped
def cancel(
    filters: FilterFlags,
    flags: BatchFlags,
    queries: Queries = None,
    grace: Annotated[str | None, typer.Option(metavar="DURATION", help="Kill what has not ended after this.")] = None,
    url: Url = None,
) -> None:
    """Ask them to end: handlers are told at their next await point, and compensation runs."""
    acting.act("cancel", queries, filters, flags, url=url, grace=grace)


@group.command("kill")
@grouped
def kill(filters: FilterFlags, flags: BatchFlags, queries: Queries = None, url: Url = None) -> None:
    """End them at once, with what they have called, without compensation."""
    acting.act("kill", queries, filters, flags, url=url)


@group.command("pause")
@grouped
def pause(filters: FilterFlags, flags: BatchFlags, queries: Queries = None, url: Url = None) -> None:
    """Hold them until they are resumed."""
    acting.act("pause", queries, filters, flags, url=url)


@group.command("resume")
@grouped
def resume(
    filters: FilterFlags,
    flags: BatchFlags,
    queries: Queries = None,
    deployment: Annotated[str | None, typer.Option(metavar="ID", help="The deployment to go on with.")] = None,
    url: Url = None,
) -> None:
    """Go on with what is paused; retry at once what waits for a retry."""
    acting.act("resume", queries, filters, flags, url=url, deployment=deployment)


@group.command("purge")
@grouped
def purge(filters: FilterFlags, flags: BatchFlags, queries: Queries = None, url: Url = None) -> None:
    """Remove what is completed."""
    acting.act("purge", queries, filters, flags, url=url)


@group.command(acting.RESTART)
@group.command("restart", hidden=True)
@grouped
def restart(
    filters: FilterFlags,
    flags: BatchFlags,
    queries: Queries = None,
    killed_by: Annotated[str | None, typer.Option(metavar="BATCH", help="Only what this batch has killed.")] = None,
    url: Url = None,
) -> None:
    """Start another one like each that is completed, with its input; not for workflows.  [also: restart]"""
    acting.act(acting.RESTART, queries, filters, flags, url=url, killed_by=killed_by)


def _writer(format: Format) -> output.Writer:
    if format is Format.TABLE:
        from coordinator.cli.tables import InvocationTable

        return InvocationTable()
    return output.JsonArray() if format is Format.JSON else output.JsonLines()


def _json(text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CallerError(f"--input is not JSON ({error}); a text needs its own quotes, as in '\"Ada\"'") from None
