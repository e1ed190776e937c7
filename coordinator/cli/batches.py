"""`coordinator batches`: look at batches that were submitted, follow and change them."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import output, session
from coordinator.cli.output import Format, Output
from coordinator.cli.settings import Url

if TYPE_CHECKING:
    from coordinator.client import Batch, Client, Progress

group = typer.Typer(help="Look at batches and change them.  [also: batch]", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The batch's id: what --request-id said, or what was shown.")]


@group.command("list")
@group.command("ls", hidden=True)
def list_(output_format: Output = None, url: Url = None) -> None:
    """List the batches that the server remembers, newest first.  [also: ls]"""
    batches = session.run(url, lambda client: client.batches())
    format = output.chosen(output_format)
    if format is Format.TABLE:
        from coordinator.cli.tables import show_batches

        show_batches(batches)
        return
    writer = output.JsonArray() if format is Format.JSON else output.JsonLines()
    writer.write(batches)
    writer.close(len(batches))


@group.command("get")
def get(id: Id, output_format: Output = None, url: Url = None) -> None:
    """Show one batch and its share on each partition."""
    batch = _with_batch(url, id, lambda batch: batch.refresh())
    if output.chosen(output_format) is Format.TABLE:
        from coordinator.cli.tables import show_batch

        show_batch(batch)
    else:
        output.say(output.json_text(batch))


@group.command("watch")
def watch(id: Id, url: Url = None) -> None:
    """Follow a batch until it is over; the exit code says how it went."""
    from coordinator.cli import watching

    async def follow(batch: "Batch") -> "Progress":
        return await watching.follow(batch, watching.display(batch.latest.action))

    watching.conclude(_with_batch(url, id, follow))


@group.command("pause")
def pause(id: Id, url: Url = None) -> None:
    """Hold a batch; what it has done stays done."""
    _changed(_with_batch(url, id, lambda batch: batch.pause()))


@group.command("resume")
def resume(id: Id, url: Url = None) -> None:
    """Let a batch go on."""
    _changed(_with_batch(url, id, lambda batch: batch.resume()))


@group.command("abort")
def abort(id: Id, url: Url = None) -> None:
    """End a batch: what it has done stays done, all else never had it."""
    _changed(_with_batch(url, id, lambda batch: batch.abort()))


@group.command("retry")
def retry(
    id: Id, wait: Annotated[bool, typer.Option(help="Wait until the retry is completed.")] = True, url: Url = None
) -> None:
    """Do again what has failed of a batch that is over, as another batch."""
    from coordinator.cli import watching

    async def again(batch: "Batch") -> "Progress":
        retried = await batch.retry()
        if wait:
            await watching.follow(retried, watching.display(f"{retried.latest.action} again"))
        return retried.latest

    watching.report(_with_batch(url, id, again), waited=wait)


@group.command("rate")
def rate(
    id: Id,
    per_s: Annotated[int, typer.Argument(metavar="N", min=0, help="Invocations a second at most; 0: no limit.")],
    url: Url = None,
) -> None:
    """Change how fast a batch goes."""
    _changed(_with_batch(url, id, lambda batch: batch.set_rate(per_s)))


def _with_batch(url: str | None, id: str, body: "Callable[[Batch], Awaitable[Progress]]") -> "Progress":
    async def whole(client: "Client") -> "Progress":
        return await body(await client.batch(id))

    return session.run(url, whole)


def _changed(progress: "Progress") -> None:
    if not output.for_people():
        output.say(output.json_text(progress))
        return
    from coordinator.cli.watching import counts, grace

    limit = "" if progress.rate is None else f", at most {progress.rate:,}/s"
    output.say(f"{progress.id} is {progress.state}{limit}: {counts(progress)}{grace(progress)}")
