"""Cancel, kill, pause, resume, purge, restart as new: one invocation directly, anything else as a batch.

Before a batch a person is asked, with the number that it would be; a program has to say --yes. One id never
asks: whoever has its id has looked at it.
"""

import sys
from typing import TYPE_CHECKING, Final

import typer

from coordinator.cli import output, selection, session, watching
from coordinator.cli.flags import BatchFlags, FilterFlags
from coordinator.cli.session import Exit

if TYPE_CHECKING:
    from coordinator.client import Batch, BatchRequest, Client, Filter, Progress

RESTART: Final = "restart-as-new"
_DONE: Final = {
    "cancel": "cancelled",
    "kill": "killed",
    "pause": "paused",
    "resume": "resumed",
    "purge": "purged",
}


def act(
    action: str,
    queries: list[str] | None,
    filters: FilterFlags,
    flags: BatchFlags,
    *,
    url: str | None,
    deployment: str | None = None,
    grace: str | None = None,
    killed_by: str | None = None,
) -> None:
    """Do it to what is meant, and end the command with the exit code that says how it went."""
    with session.failures():
        filter = selection.filter_of(queries or [], filters, killed_by=killed_by)
        selection.check_not_empty(filter)
    id = selection.one_id(filter)
    if id is not None and selection.only_ids(filter) and flags.plain and grace is None:
        _act_on_one(action, id, url, deployment)
        return
    request = _request(action, filter, flags, deployment, grace)
    if id is None and not flags.dry_run and not flags.yes:
        _ask(request, url)
    _submit(request, flags.wait, url)


def _act_on_one(action: str, id: str, url: str | None, deployment: str | None) -> None:
    acted = session.run(url, lambda client: client.act(id, action, deployment=deployment))
    if not output.for_people():
        import msgspec

        # What is purged has no status any more, and null would be a value of it.
        shown = {name: value for name, value in msgspec.to_builtins(acted).items() if value is not None}
        output.say(output.json_text(shown))
    elif action == RESTART:
        output.say(f"{id} restarted as {acted.id}")
    else:
        output.say(f"{id} {_DONE[action]}" if acted.done else f"{id} asked to {action}")


def _request(
    action: str, filter: "Filter", flags: BatchFlags, deployment: str | None, grace: str | None
) -> "BatchRequest":
    from coordinator.client import BatchRequest

    return BatchRequest(
        action=action,
        filter=filter,
        reason=flags.reason,
        request_id=flags.request_id,
        expect=flags.expect,
        max=flags.max,
        rate=flags.rate,
        dry_run=flags.dry_run,
        deployment=deployment,
        grace=grace,
    )


# -- the question --------------------------------------------------------------------------------------------


def _ask(request: "BatchRequest", url: str | None) -> None:
    """Return when a person agrees; end the command otherwise."""
    if not sys.stdin.isatty():
        session.fail("a batch needs --yes where nobody can be asked; --dry-run says how many it would be", Exit.USAGE)
    would = _counted(request, url)
    if would.state != "completed":
        watching.conclude(would)
    if would.matched == 0:
        (output.say if output.for_people() else _on_stderr)("no invocation matches; nothing was done")
        raise typer.Exit(Exit.DONE)
    _on_stderr(_question(request, would), newline=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        session.fail("declined; nothing was done", Exit.REFUSED)


def _counted(request: "BatchRequest", url: str | None) -> "Progress":
    """The same as a dry run without a guard, so that the number comes even where the guard would refuse.

    It stays among the batches, so its reason says what it was for.
    """
    import msgspec

    reason = f"counted to ask before a {request.action}"
    dry = msgspec.structs.replace(
        request, request_id=None, reason=reason, dry_run=True, expect=None, max=None, rate=None
    )

    async def count(client: "Client") -> "Progress":
        batch = await client.submit(dry)
        shown = watching.Bar("counting") if output.for_people() else watching.Silence()
        try:
            async for progress in batch.progress():
                shown.show(progress)
        finally:
            shown.close()
        return batch.latest

    return session.run(url, count)


def _question(request: "BatchRequest", would: "Progress") -> str:
    number = would.applied
    others = would.matched - number
    of = f" (and leave {others:,} others that match as they are)" if others else ""
    what = f"{number:,} invocation{'' if number == 1 else 's'}"
    return f"{request.action.capitalize()} {what}{of}: {selection.in_words(request.filter)}? [y/N] "


def _on_stderr(text: str, newline: bool = True) -> None:
    typer.echo(text, err=True, nl=newline)


# -- the batch -----------------------------------------------------------------------------------------------


def _submit(request: "BatchRequest", wait: bool, url: str | None) -> None:
    import asyncio

    from coordinator.client.requests import named

    request = named(request)

    async def submit(client: "Client") -> "Batch":
        try:
            batch = await client.submit(request)
        except asyncio.CancelledError:
            id = request.request_id
            _on_stderr(f"Interrupted; batch {id} may be in force. See whether it is with: coordinator batches get {id}")
            raise
        if wait:
            await watching.follow(batch, watching.display(request.action))
        return batch

    watching.report(session.run(url, submit).latest, waited=wait)
