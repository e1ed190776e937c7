"""The broker of one's own, as a command: what it does with another command and with signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka import broker

SLOW_TO_END = """
import signal, sys, threading
ended = threading.Event()
signal.signal(signal.{name}, lambda *_: ended.set())
print("up", flush=True)
ended.wait()
# Longer than Python gives a child of `subprocess.run` on Ctrl-C before it kills it.
signal.sigtimedwait([], 1.0)
print("done", flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_command_that_is_interrupted_ends_by_itself(number: signal.Signals, to_all: bool) -> None:
    command = [sys.executable, "-m", "tests.kafka.broker", sys.executable, "-c", SLOW_TO_END.format(name=number.name)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(broker.__file__).parents[2],
        env=os.environ | {"KAFKA_BOOTSTRAP": "127.0.0.1:1"},  # taken at its word
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        # On a terminal Ctrl-C goes to the whole group; what a supervisor sends goes to one.
        os.killpg(process.pid, number) if to_all else process.send_signal(number)
        assert process.wait(30) == 7
        assert process.stdout.read() == "done\n"
