"""The processes of the demo do not outlive whoever started them.

A demo that is killed outright cannot clean up after itself; but its end of the pipe to their standard input closes.
"""

import os
import sys
import threading
from collections.abc import Callable


def when_gone(act: Callable[[], object]) -> None:
    """Call this in a thread of its own once the standard input of this process has ended."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        act()

    threading.Thread(target=watch, daemon=True).start()
