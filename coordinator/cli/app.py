"""All commands under their names and aliases."""

import typer

from coordinator.cli import batches, importing, invocations, snapshots, system, topics

app = typer.Typer(
    name="coordinator",
    help="One command with a filter, in force at its position in each partition's log.",
    epilog="Settings: flags, then COORDINATOR_URL, COORDINATOR_TOKEN and the like, then ./coordinator.toml or the "
    "file that COORDINATOR_CONFIG names.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text, and a third of the time to show it
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(system.demo)
app.command("serve")(system.serve)
app.command("import")(importing.import_)
app.add_typer(invocations.group, name="invocations")
app.add_typer(batches.group, name="batches")
app.add_typer(topics.group, name="topics")
app.command("partitions")(system.partitions)
app.command("check")(system.check)
app.add_typer(snapshots.group, name="snapshot")

for alias in ("invocation", "inv"):
    app.add_typer(invocations.group, name=alias, hidden=True)
app.add_typer(batches.group, name="batch", hidden=True)
app.add_typer(snapshots.group, name="snapshots", hidden=True)
