"""`coordinator serve`, but it does not outlive whoever started it.

`python -m coordinator.demo.served FOLDER ARGUMENT…` is the command with these arguments until its standard input
ends. A demo that is killed outright cannot clean up after itself; its end of the pipe closes all the same.
"""

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from coordinator.cli import main as command


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    folder, *serve = arguments
    threading.Thread(target=_watch, args=(Path(folder),), daemon=True).start()
    sys.argv = ["coordinator", "serve", *serve]
    command()


def _watch(folder: Path) -> None:
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)  # the workers end with this process


if __name__ == "__main__":
    main(sys.argv[1:])
