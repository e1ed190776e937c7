"""The log for other processes of the same machine: they append through its owner and read the file themselves.

`LogServer` is the owner's end of the sockets, `RemoteLog` the other processes'. Appends share the owner's group
commit; reads cost the owner nothing; ends are pushed, so that `wait` sleeps until there is something.

**A process that reads must not recover the WAL.** What SQLite recovers from a killed owner's WAL need not be
durable (see `embedded`). It recovers when the first connection to a file is opened, and never while one is open.
So a RemoteLog opens the file first and greets the owner afterwards: the answer proves that the owner lived when the
file was opened, and the connection kept by the reader sees to the rest, also after the owner's death.

**The owner's death** closes the socket. Then outstanding futures fail with LogGoneError, whoever waits wakes up
with it, and `on_gone` is called so that the process can end; the reads that it has still to do go on working.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from coordinator.logs import frames
from coordinator.logs.port import (
    Bounds,
    Entry,
    LogError,
    LogGoneError,
    Record,
    Stream,
    check_entries,
    check_partition,
)
from coordinator.logs.reader import LogReader
from coordinator.logs.server import LogServer

__all__ = ["LogServer", "RemoteLog"]  # the two ends, for who puts processes together


class RemoteLog:
    """The log at `path`, which the process at the other end of `sock` owns and serves.

    `on_gone` is called on the receiving thread and must not wait for it: let it set an event, or exit.
    """

    def __init__(
        self, path: str | os.PathLike[str], sock: socket.socket, *, on_gone: Callable[[], None] | None = None
    ) -> None:
        self._reader = LogReader(Path(path))
        self._sock = sock
        self._on_gone = on_gone
        self._sending = threading.Lock()
        self._changed = threading.Condition()  # guards what follows
        self._number = 0
        self._outstanding: dict[int, Future[Any]] = {}
        self._ends: dict[tuple[Stream, int], int] = {}
        self._followed: set[tuple[Stream, int]] = set()
        self._refusal: Callable[[], LogError] | None = None  # why nothing more goes through the socket
        self._welcomed: Future[str] = Future()
        self._thread = threading.Thread(target=self._receive, name="log-receive", daemon=True)
        self._thread.start()
        self._send(frames.Hello())
        try:
            if self._welcomed.result() != self._reader.identity:
                raise LogError(f"{path} is not the log that the other end serves; check the path")
        except LogError:
            self.close()
            raise

    @property
    def identity(self) -> str:
        return self._reader.identity

    def partitions(self, stream: Stream) -> int:
        return self._reader.counts[stream]

    def submit(self, entries: Sequence[Entry]) -> Future[list[int]]:
        check_entries(self._reader.counts, entries)
        done: Future[list[int]] = Future()
        self._call(done, lambda number: frames.Append(number, list(entries)))
        return done

    def append(self, entries: Sequence[Entry]) -> list[int]:
        return self.submit(entries).result()

    def read(self, stream: Stream, partition: int, start: int, *, records_max: int, bytes_max: int) -> list[Record]:
        return self._reader.read(stream, partition, start, records_max=records_max, bytes_max=bytes_max)

    def bounds(self, stream: Stream, partition: int) -> Bounds:
        return self._reader.bounds(stream, partition)

    def trim(self, stream: Stream, partition: int, below: int) -> None:
        check_partition(self._reader.counts, stream, partition)
        done: Future[list[int]] = Future()
        self._call(done, lambda number: frames.Trim(number, stream, partition, below))
        done.result()

    def wait(self, stream: Stream, partition: int, position: int, timeout_s: float) -> bool:
        check_partition(self._reader.counts, stream, partition)
        key = (stream, partition)
        with self._changed:
            follow = key not in self._followed
            self._followed.add(key)
        if follow:
            self._send(frames.Follow(stream, partition))
            # The owner tells the end from now on; what it is so far stands in the file.
            self._moved(key, self._reader.bounds(stream, partition).end)
        with self._changed:
            self._changed.wait_for(lambda: position < self._ends.get(key, 0) or self._refusal, timeout_s)
            if self._refusal is not None:
                raise self._refusal()
            return position < self._ends.get(key, 0)

    def close(self) -> None:
        with self._changed:
            self._refusal = self._refusal or _closed
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._outstanding)
        frames.shut_down(self._sock)
        self._thread.join()
        self._reader.close()

    def _call(self, done: Future[list[int]], message: Callable[[int], frames.Request]) -> None:
        # `cancel` has no effect: nobody can take back what may already be in the log.
        done.set_running_or_notify_cancel()
        # One lock over numbering and sending, so that appends go out in the order of the calls.
        with self._sending:
            with self._changed:
                if self._refusal is not None:
                    raise self._refusal()
                number = self._number = self._number + 1
                self._outstanding[number] = done
            self._send_locked(message(number))

    def _send(self, message: frames.Request) -> None:
        with self._sending:
            self._send_locked(message)

    def _send_locked(self, message: frames.Request) -> None:
        try:
            self._sock.sendall(frames.frame(message))
        except OSError:
            frames.shut_down(self._sock)  # the receiving thread sees it and tells everybody

    def _receive(self) -> None:
        try:
            for answer in frames.receive(self._sock, frames.ANSWERS):
                self._received(answer)
        finally:
            self._lost()

    def _received(self, answer: frames.Answer) -> None:
        match answer:
            case frames.Welcome(identity):
                self._welcomed.set_result(identity)
            case frames.Done(number, positions):
                self._take(number).set_result(positions)
            case frames.Failed(number, text):
                self._take(number).set_exception(LogError(text))
            case frames.Moved(ends):
                for stream, partition, end in ends:
                    self._moved((stream, partition), end)

    def _take(self, number: int) -> Future[Any]:
        with self._changed:
            done = self._outstanding.pop(number)
            self._changed.notify_all()
            return done

    def _moved(self, key: tuple[Stream, int], end: int) -> None:
        with self._changed:
            if end > self._ends.get(key, 0):
                self._ends[key] = end
                self._changed.notify_all()

    def _lost(self) -> None:
        with self._changed:
            by_us = self._refusal is not None
            self._refusal = self._refusal or _gone
            failed = [*self._outstanding.values()]
            self._outstanding.clear()
            self._changed.notify_all()
        self._sock.close()
        for done in failed:
            done.set_exception(_gone())
        if not self._welcomed.done():
            self._welcomed.set_exception(_gone())
        if self._on_gone is not None and not by_us:
            self._on_gone()


def _closed() -> LogError:
    return LogError("the log is closed")


def _gone() -> LogError:
    return LogGoneError("the process that owns the log is gone; start it again, and this one after it")
