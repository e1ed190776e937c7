"""Where participants' sessions are: in this process, or in another one that has taken them on."""

from typing import Protocol

from coordinator.logs.embedded import EmbeddedLog
from coordinator.runtime.dispatch.dispatcher import Dispatcher, DispatchView, Send
from coordinator.runtime.dispatch.feed import Feed
from coordinator.runtime.requests.port import Requests


class Sessions(Protocol):
    """All in one event loop."""

    async def start(self, send: Send) -> None:
        """Begin; `send` appends commands and waits for their answers."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of this process. Raises UnavailableError when it has none."""

    @property
    def elsewhere(self) -> str | None:
        """HOST:PORT of the process that has the sessions; None when that is this one, or is not known."""

    @property
    def anywhere(self) -> bool:
        """Whether some process has the sessions, as far as is known."""

    @property
    def failure(self) -> str | None:
        """Why nothing is delivered any more, if that is so here."""

    def view(self) -> DispatchView:
        """How the sessions of this process stand."""

    def end_streams(self) -> None:
        """The process is ending: let all streams end, and open no more."""

    async def close(self) -> None:
        """Stop. What participants have is taken back by the next dispatcher that starts."""


class SessionsHere:
    """Always in this process."""

    elsewhere: None = None
    anywhere = True

    def __init__(self, log: EmbeddedLog, requests: Requests) -> None:
        self._log = log
        self._requests = requests
        self._dispatcher: Dispatcher | None = None

    async def start(self, send: Send) -> None:
        """Take over from whoever carried deliveries before."""
        log = self._log
        self._dispatcher = Dispatcher(log, self._requests, send, lambda ends, on_run: Feed(log, ends, on_run))
        await self._dispatcher.start()

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher, once it was started."""
        assert self._dispatcher is not None
        return self._dispatcher

    @property
    def failure(self) -> str | None:
        """Why nothing is delivered any more, if that is so."""
        return self.dispatcher.failure

    def view(self) -> DispatchView:
        """How the sessions stand."""
        return self.dispatcher.view()

    def end_streams(self) -> None:
        """Let all streams end."""
        self.dispatcher.end_streams()

    async def close(self) -> None:
        """Stop."""
        if self._dispatcher is not None:
            self._dispatcher.close()
