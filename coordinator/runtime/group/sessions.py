"""Participants' sessions on Kafka: they are where the coordinator is, which is in one process at a time.

When the coordinator's role becomes active in this process, a dispatcher begins here and takes back what was delivered
before; when it is lost, the dispatcher ends, and participants open their sessions anew, wherever they are by then. One
that was replaced and does not know it yet has a lower tenure, and partitions do not heed it.
Processes without it pass participants on to the one that the group names.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from coordinator.logs.port import Log, LogError
from coordinator.runtime.dispatch.dispatcher import Dispatcher, DispatchView, Send
from coordinator.runtime.dispatch.feed_by_waiting import FeedByWaiting
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group.directory import Directory, Member
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.requests.port import Requests

_LOOK_S: Final = 0.1

logger = structlog.get_logger(__name__)


class Active(Protocol):
    """The coordinator's role in this process."""

    @property
    def tenure(self) -> int | None:
        """The number of its tenure, higher than those of all before it; None while this is not the one that folds."""

    @property
    def failure(self) -> Exception | None:
        """Why it has stopped by itself."""


class SessionsOfGroup:
    """All in one event loop."""

    def __init__(self, directory: Directory, log: Log, requests: Requests, address: str, role: Active | None) -> None:
        """`directory` is that of the coordinator's group; `address` is where this process answers.

        `role` is None where this process has none.
        """
        self._log = log
        self._requests = requests
        self._address = address
        self._role = role
        self._watch = Watch(directory, self._members)
        self._there: str | None = None
        self._dispatcher: Dispatcher | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    async def start(self, send: Send) -> None:
        """Begin to look where the sessions are."""
        self._watch.start()
        if self._role is not None:
            self._task = asyncio.create_task(self._follow(self._role, send))

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of this process. Raises UnavailableError when it has none."""
        if self._dispatcher is None:
            raise UnavailableError("no process has the participants' sessions now; try again in a moment")
        return self._dispatcher

    @property
    def elsewhere(self) -> str | None:
        """The address of the process that has the sessions; None when that is this one, or is not known."""
        return None if self._dispatcher is not None or self._there == self._address else self._there

    @property
    def anywhere(self) -> bool:
        """Whether some process has the sessions, as far as is known."""
        return self._dispatcher is not None or self.elsewhere is not None

    @property
    def failure(self) -> str | None:
        """Why nothing is delivered any more, or nothing is folded, if that is so here."""
        if self._role is not None and self._role.failure is not None:
            return f"the coordinator stands still: {self._role.failure}"
        return None if self._dispatcher is None else self._dispatcher.failure

    def view(self) -> DispatchView:
        """How the sessions of this process stand."""
        return DispatchView(0, 0, 0) if self._dispatcher is None else self._dispatcher.view()

    def end_streams(self) -> None:
        """Let all streams end, and open no more."""
        self._ending = True
        if self._dispatcher is not None:
            self._dispatcher.end_streams()

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._end()
        await self._watch.close()

    def _members(self, members: Sequence[Member]) -> None:
        self._there = next((member.address for member in members if 0 in member.partitions), None)

    async def _follow(self, role: Active, send: Send) -> None:
        while True:
            try:
                await self._follow_to(role.tenure, send)
            except Exception:
                logger.exception("sessions_not_changed")
                await asyncio.sleep(1)
            await asyncio.sleep(_LOOK_S)

    async def _follow_to(self, tenure: int | None, send: Send) -> None:
        if self._dispatcher is not None and self._dispatcher.tenure != tenure:
            self._end()
            logger.info("sessions_let_go")
        if tenure is not None and self._dispatcher is None and not self._ending:
            await self._begin(send, tenure)

    async def _begin(self, send: Send, tenure: int) -> None:
        log = self._log
        dispatcher = Dispatcher(
            log, self._requests, send, lambda ends, on_run: FeedByWaiting(log, ends, on_run), tenure=tenure
        )
        try:
            await dispatcher.start()
        except LogError as error:
            logger.warning("sessions_not_begun", error=str(error))
            dispatcher.close()
            await asyncio.sleep(1)
            return
        self._dispatcher = dispatcher
        logger.info("sessions_taken_over")

    def _end(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()
            self._dispatcher = None
