"""The owner's end of the sockets over which other processes use the log; `remote` has the theory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from coordinator.logs import frames
from coordinator.logs.embedded import EmbeddedLog, Ends
from coordinator.logs.port import LogError, Stream


class LogServer:
    """Serves connected stream sockets, each with one process at its other end, until that closes it or `close`.

    The other end learns of the owner's death from its socket, so no third process may hold a copy of this
    end: start processes by `subprocess` or spawn, not by a bare fork.
    """

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._sessions: set[_Session] = set()
        self._unfollow = log.follow(self._tell)

    def attach(self, sock: socket.socket) -> None:
        """Serve this socket in threads of its own, and close it in the end."""
        session = _Session(self._log, sock, self._forget)
        with self._lock:
            self._sessions.add(session)
        session.start()

    def close(self) -> None:
        """Close every socket. What had come in is appended, whether or not it was answered."""
        self._unfollow()
        for session in self._snapshot():
            session.close()

    def _forget(self, session: _Session) -> None:
        with self._lock:
            self._sessions.discard(session)

    def _tell(self, ends: Ends) -> None:
        for session in self._snapshot():
            session.tell(ends)

    def _snapshot(self) -> list[_Session]:
        with self._lock:
            return list(self._sessions)


class _Session:
    """One socket: one thread takes requests, another one sends.

    Only the sending thread waits for the other end to read: answers come from the log's writing thread, which must
    not stand still for one process. What waits to be sent is one answer for each append that the other end has
    outstanding, and one end for each partition: of several moves only the last is told.
    """

    def __init__(self, log: EmbeddedLog, sock: socket.socket, forget: Callable[[_Session], None]) -> None:
        self._log = log
        self._sock = sock
        self._forget = forget
        self._changed = threading.Condition()
        self._ended = False
        self._answers: list[frames.Answer] = []
        self._followed: set[tuple[Stream, int]] = set()
        self._moved: dict[tuple[Stream, int], int] = {}
        self._receiver = threading.Thread(target=self._receive, name="log-session-receive", daemon=True)
        self._sender = threading.Thread(target=self._send, name="log-session-send", daemon=True)

    def start(self) -> None:
        self._sender.start()
        self._receiver.start()

    def tell(self, ends: Ends) -> None:
        with self._changed:
            for stream, number, end in ends:
                key = (stream, number)
                if key in self._followed:
                    self._moved[key] = max(end, self._moved.get(key, 0))
            if self._moved:
                self._changed.notify()

    def close(self) -> None:
        frames.shut_down(self._sock)
        self._receiver.join()
        self._sender.join()

    def _receive(self) -> None:
        try:
            for request in frames.receive(self._sock, frames.REQUESTS):
                self._received(request)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _received(self, request: frames.Request) -> None:
        match request:
            case frames.Hello():
                self._answer(frames.Welcome(self._log.identity))
            case frames.Append():
                self._append(request)
            case frames.Trim():
                self._trim(request)
            case frames.Follow(stream, number):
                with self._changed:
                    self._followed.add((stream, number))
                # Read only now, so that no move falls between this end and the first one that is told.
                self.tell([(stream, number, self._log.bounds(stream, number).end)])

    def _append(self, request: frames.Append) -> None:
        try:
            self._log.submit(request.entries).add_done_callback(partial(self._appended, request.number))
        except (LogError, ValueError) as error:
            self._answer(frames.Failed(request.number, str(error)))

    def _appended(self, number: int, done: Future[list[int]]) -> None:
        error = done.exception()
        self._answer(frames.Failed(number, str(error)) if error else frames.Done(number, done.result()))

    def _trim(self, request: frames.Trim) -> None:
        try:
            self._log.trim(request.stream, request.partition, request.below)
            self._answer(frames.Done(request.number, []))
        except (LogError, ValueError) as error:
            self._answer(frames.Failed(request.number, str(error)))

    def _answer(self, answer: frames.Answer) -> None:
        with self._changed:
            self._answers.append(answer)
            self._changed.notify()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._moved or self._ended)
                if self._ended:
                    break
                answers, self._answers = self._answers, []
                moved, self._moved = self._moved, {}
            # Ends first: who has its answer has also been told of what it appended.
            ends = [frames.Moved([(*key, end) for key, end in moved.items()])] if moved else []
            try:
                self._sock.sendall(b"".join(map(frames.frame, [*ends, *answers])))
            except OSError:
                frames.shut_down(self._sock)  # which ends the receiving thread, and that ends this one
        self._sock.close()
        self._forget(self)
