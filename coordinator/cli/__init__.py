"""The command line, `coordinator`: each module is a group of commands or one thing that they share.

May import everything else of the project; nothing imports it. A command imports what it alone needs inside
its body, so that `--help` and the tab key answer at once.
"""


def main() -> None:
    """Entry point of the installed command."""
    from coordinator.cli.app import app

    app(prog_name="coordinator")
