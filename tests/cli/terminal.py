"""A pseudo-terminal with a process on it, and someone who reads and types."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIMEOUT_S = 60


class Terminal:
    """What a process shows on its terminal, without colours and movements of the cursor."""

    def __init__(self, command: list[str], directory: Path, env: Mapping[str, str], columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=directory, env=env, start_new_session=True
        )
        os.close(slave)
        self._raw = b""
        self.shown = ""

    def read_until(self, text: str) -> str:
        """Wait until this is shown."""
        deadline = time.monotonic() + _TIMEOUT_S
        while text not in self.shown:
            assert self._more(deadline), f"{text!r} was never shown: {self.shown}"
        return self.shown

    def type(self, text: str) -> None:
        """Type this, as a person would."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def close(self) -> int:
        """Wait for the end of the process; its exit code."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self._more(deadline):
            pass
        os.close(self._master)
        return self._process.wait(_TIMEOUT_S)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._master, 65_536) if ready else b""
        except OSError:  # Linux says so when the last process has left the terminal
            data = b""
        self._raw += data
        # What was read may end in the middle of a character.
        self.shown = _ESCAPES.sub("", self._raw.decode(errors="ignore").replace("\r\n", "\n"))
        return bool(data)
