"""The processes that the tests here start, each a function by its name: python -m tests.logs.processes <name> …

They say what they did in lines of JSON on standard output, which is how a test waits for them.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, LogError, Stream
from coordinator.logs.remote import LogServer, RemoteLog

PARTITIONS = {Stream.COMMANDS: 2}
ROOT = Path(__file__).parents[2]


@contextmanager
def started(*arguments: object, sockets: Sequence[socket.socket] = ()) -> Iterator["subprocess.Popen[str]"]:
    """One of the functions below in a process of its own, which is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[each.fileno() for each in sockets],
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> Any:
    """The next thing the process says; None once it has ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    # A killed process may leave half a line.
    return json.loads(line) if line.endswith("\n") else None


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def append_for_ever(path: str, name: str) -> None:
    """Append the same value to both partitions, again and again, many at a time; say each acknowledged one."""
    log = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
    room = threading.Semaphore(64)
    number = 0
    while True:
        room.acquire()
        value = f"{name} {number}"
        entries = [Entry(Stream.COMMANDS, partition, value.encode().ljust(300)) for partition in range(2)]

        def acknowledged(done: Any, value: str = value) -> None:
            say([value, done.result()])
            room.release()

        log.submit(entries).add_done_callback(acknowledged)
        number += 1


def open_it(path: str) -> None:
    """Open the log and say how that went."""
    try:
        EmbeddedLog.create_or_open(path, partitions=PARTITIONS).close()
    except LogError as error:
        say([type(error).__name__, str(error)])
    else:
        say(["opened", ""])


def own(path: str, descriptor: str) -> None:
    """Own the log and serve one socket, until killed."""
    log = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
    LogServer(log).attach(socket.socket(fileno=int(descriptor)))
    say("serving")
    threading.Event().wait()


def append_remotely(path: str, descriptor: str, name: str, count: str) -> None:
    """Append so many values through the owner, many at a time, and say their positions; end when it is gone."""
    log = RemoteLog(path, socket.socket(fileno=int(descriptor)), on_gone=lambda: os._exit(3))
    futures = [log.submit([Entry(Stream.COMMANDS, 0, f"{name} {number}".encode())]) for number in range(int(count))]
    say([future.result()[0] for future in futures])
    threading.Event().wait()


def fill(path: str, bytes_max: str) -> None:
    """Append until no file may grow any more; say how many were acknowledged and what the log then does."""
    log = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(bytes_max), resource.RLIM_INFINITY))
    acknowledged = 0
    refusals: list[str] = []
    while not refusals:
        try:
            log.append([Entry(Stream.COMMANDS, 0, b"x" * 10_000)])
            acknowledged += 1
        except LogError as error:
            refusals.append(str(error))
    try:
        log.submit([Entry(Stream.COMMANDS, 0, b"")])
    except LogError as error:
        refusals.append(str(error))
    readable = log.bounds(Stream.COMMANDS, 0).end
    say({"acknowledged": acknowledged, "refusals": refusals, "readable": readable})
    log.close()
    say("closed")


if __name__ == "__main__":
    # Standard output is for what the process says.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    globals()[sys.argv[1]](*sys.argv[2:])
