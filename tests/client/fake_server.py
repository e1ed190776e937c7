"""A server that says what a test has told it to say, and remembers what it was asked."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from coordinator.client.views import FINAL


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Say:
    """An answer. With `events` it is a stream of them, which is cut in the middle or held open if told so."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] | None = None
    cut: bool = False
    hold: threading.Event | None = None


class FakeServer:
    """Answers each route with what it was given for it, one after another; the last answer stays."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Say]] = defaultdict(list)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def on(self, method: str, path: str, *answers: Say) -> None:
        """What to answer there from now on."""
        self._answers[method, path] = list(answers)

    def asked_for(self, method: str, path: str) -> list[Asked]:
        """The requests that came for a route."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    @contextmanager
    def running(self) -> Iterator["FakeServer"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Listen no longer."""
        self._http.shutdown()
        self._http.server_close()

    def next_answer(self, asked: Asked) -> Say:
        self.asked.append(asked)
        answers = self._answers[asked.method, asked.path]
        if not answers:
            return Say(404, {"detail": f"the test expects no {asked.method} {asked.path}"})
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, url.path, parse_qsl(url.query), headers, self._body())
                self._answer(fake.next_answer(asked))

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _answer(self, say: Say) -> None:
                if say.events is not None:
                    self._stream(say)
                elif say.cut:
                    self.close_connection = True
                else:
                    body = b"" if say.body is None else json.dumps(say.body).encode()
                    self.send_response(say.status)
                    sent = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
                    for name, value in (sent | say.headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            def _stream(self, say: Say) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in say.events or []:
                    self._chunk(f": a comment\nid: 1\ndata: {json.dumps(event)}\n\n".encode())
                if say.hold is not None:
                    say.hold.wait()
                if not say.cut:
                    self._chunk(b"")
                self.close_connection = True

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def batch(state: str = "running", **counts: Any) -> dict[str, Any]:
    """A batch as the API shows one, as far as a test cares. One that is over is settled, unless a test says not."""
    told = {"id": "b1", "action": "kill", "filter": {"service": "Greeter"}, "state": state, "matched": 0}
    return told | {"settled": state in FINAL} | counts
