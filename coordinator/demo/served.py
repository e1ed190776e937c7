"""`coordinator serve`, but it does not outlive whoever started it.

`python -m coordinator.demo.served FOLDER ARGUMENT…` is the command with these arguments until its standard input
ends; then the folder goes, too.
"""

import os
import shutil
import sys
from collections.abc import Sequence

from coordinator.cli import main as command
from coordinator.demo.parent import when_gone


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    folder, *serve = arguments

    def end() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # the workers end with this process

    when_gone(end)
    sys.argv = ["coordinator", "serve", *serve]
    command()


if __name__ == "__main__":
    main(sys.argv[1:])
