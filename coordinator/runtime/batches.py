"""Batches as the surfaces call for them: asked for, looked at, changed and watched.

A batch is asked for by a record on `requests` and shown as the coordinator has folded it, which may run in another
process: so each change is appended, waited for, and then looked at.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Final

from coordinator.logs.port import Log
from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.requests import lifecycle, preconditions, retries, submission
from coordinator.requests.state import Request
from coordinator.requests.view import BatchView, view
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.errors import BusyError, UnavailableError
from coordinator.runtime.requests.asking import ANSWER_TIMEOUT_S, ask
from coordinator.runtime.requests.port import Requests
from coordinator.runtime.views import Cursor

_WATCH_INTERVAL_S: Final = 0.25
_REFRESH_S: Final = 2.0
_SETTLE_GRACE_S: Final = 1.0


class Batches:
    """Everything in the event loop in which `start` was called."""

    def __init__(self, log: Log, requests: Requests) -> None:
        self._log = log
        self._requests = requests
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: dict[str, set[asyncio.Event]] = {}

    def start(self) -> None:
        """Begin to hear of changes."""
        self._loop = asyncio.get_running_loop()
        self._requests.subscribe(self._changed_anywhere)

    def _changed_anywhere(self, request: str) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_watchers, request)

    def _wake_watchers(self, request: str) -> None:
        for event in self._changed.get(request, ()):
            event.set()

    # -- asking ----------------------------------------------------------------------------------------------

    async def submit(self, submit: messages.Submit) -> tuple[BatchView, bool]:
        """Ask for a batch; its view, and whether it is new. Does not wait for its progress.

        Raises CallerError when it cannot be meant so, ConflictError when its id has another body, BusyError
        when too many are under way.
        """
        objection = submission.objection(submit)
        if objection is not None:
            raise CallerError(objection)
        known = self._requests.get(submit.request)
        if known is None or known.submission is None:
            self._check_names(submit)
            if self._requests.active_count >= limits.ACTIVE_REQUESTS_MAX:
                raise BusyError(f"{limits.ACTIVE_REQUESTS_MAX} batches are under way; wait for one to end")
            known = await self._ask(submit.request, submit)
            if known.submission is not None and known.submission == submit:
                return view(known, wall_clock_us()), True
        preconditions.check_repeats(known, submit)
        return view(known, wall_clock_us()), False

    def _check_names(self, submit: messages.Submit) -> None:
        """What a new batch names must be there: a name that is misspelt would do nothing, or what nobody can run."""
        self._requests.deployments().check_named(submit.deployment)
        killed_by = submit.filter.killed_by
        if killed_by is not None and self.get(killed_by) is None:
            raise CallerError(f"there is no batch {killed_by}, or no longer", field="filter.killed_by")

    async def control(
        self, request: str, *, paused: bool | None = None, aborted: bool = False, rate: int | None = None
    ) -> BatchView:
        """Change a batch that runs. An abort is answered when every partition has acknowledged it; it also calls off
        the grace of one that is over.

        Raises NotFoundError, ConflictError when the batch is over, and UnavailableError when an abort was not
        acknowledged in time; it holds all the same, from wherever it arrives.
        """
        known = preconditions.known(self._requests.get(request), request)
        if not preconditions.can_change(known, aborted=aborted):
            return view(known, wall_clock_us())
        change = messages.RequestControl(request=request, paused=paused, aborted=aborted, rate=rate)
        await self._ask(request, change)
        if aborted:
            return await self._until_over(request)
        if paused:
            await self._until_paused(request)
        after = self.get(request)
        assert after is not None
        return after

    async def retry(self, request: str) -> tuple[BatchView, bool]:
        """Do again what has failed of a batch, as another batch; that one's view, and whether it is new.

        Raises NotFoundError, and ConflictError when the batch is not over or nothing of it has failed.
        """
        return await self.submit(retries.submission(preconditions.known(self._requests.get(request), request)))

    async def _until_paused(self, request: str) -> None:
        """Wait a little for all partitions to have acknowledged; a pause holds wherever it has arrived."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH_S):
                async for seen in self.watch(request):
                    if seen.state == lifecycle.State.PAUSED or seen.finished_at is not None:
                        return

    async def _until_over(self, request: str) -> BatchView:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                async for seen in self.watch(request):
                    if seen.finished_at is not None and not seen.awaits_grace:
                        return seen
        except TimeoutError:
            pass
        raise UnavailableError(f"not every partition has acknowledged the abort of {request}; watch it to its end")

    async def _ask(self, request: str, message: messages.Message) -> Request:
        await ask(self._log, self._requests, message)
        state = self._requests.get(request)
        assert state is not None
        return state

    # -- looking ---------------------------------------------------------------------------------------------

    def get(self, request: str) -> BatchView | None:
        """One batch, None when there is none of that id."""
        state = self._requests.get(request)
        return None if state is None or state.submission is None else view(state, wall_clock_us())

    def list(self, *, limit: int | None = None, after: str | None = None) -> Sequence[BatchView]:
        """Batches that are remembered, newest first, then by id; behind a cursor if one is given."""
        now = wall_clock_us()
        found = (state for state in self._requests.list() if state.submission is not None)
        if after is not None:
            behind = Cursor.parse(after)
            place = -behind.at, behind.id
            found = (state for state in found if (-state.submitted_at, state.id) > place)
        return [view(state, now) for state in islice(found, limit)]

    def cursor(self, last: BatchView) -> str:
        """The cursor of a list of batches that goes on behind this one."""
        return Cursor.behind(last.submitted_at, last.id).text()

    async def watch(self, request: str) -> AsyncIterator[BatchView]:
        """The batch now and after each change, a few times a second at most, until it is over and settled."""
        changed = asyncio.Event()
        self._changed.setdefault(request, set()).add(changed)
        try:
            while (seen := self.get(request)) is not None:
                changed.clear()
                yield seen
                if seen.finished_at is not None:
                    if seen.settled:
                        return
                    async with asyncio.timeout(_SETTLE_GRACE_S):
                        await changed.wait()
                    continue
                with contextlib.suppress(TimeoutError):  # silence is worth showing too
                    async with asyncio.timeout(_REFRESH_S):
                        await changed.wait()
                await asyncio.sleep(_WATCH_INTERVAL_S)
        except TimeoutError:
            return  # over, and what was sent on its account is still under way
        finally:
            watchers = self._changed[request]
            watchers.discard(changed)
            if not watchers:
                del self._changed[request]
