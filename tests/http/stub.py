"""A gateway over dicts: what the surface does is tested here, what the system does elsewhere.

It keeps what it was asked (`asked`), and answers what a test has put into it; an exception in `fails` is
raised by the next call of any kind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from coordinator.model import ids
from coordinator.model.errors import CallerError, ConflictError, NotFoundError
from coordinator.model.filters import Filter
from coordinator.model.messages import Register, Submit
from coordinator.model.restate_rows import parse_row
from coordinator.model.statuses import Action
from coordinator.partition.outputs import Answer
from coordinator.requests.deployments import Deployment, Registry
from coordinator.requests.lifecycle import TERMINAL
from coordinator.requests.submission import repeats
from coordinator.requests.view import BatchView
from coordinator.runtime.dispatch.dispatcher import DispatchView, Reported
from coordinator.runtime.imports import ImportReport
from coordinator.runtime.views import Ending, InvocationDetails, InvocationView, PartitionView, PendingBatchView

NOW = "2026-11-21T09:30:00.000000Z"
CHUNK = 2


def an_invocation(number: int, **changed: Any) -> InvocationView:
    view = InvocationView(
        id=ids.invocation_id(number, number),
        target="Greeter/greet",
        service="Greeter",
        key=None,
        handler="greet",
        status="running",
        outcome=None,
        created_at=NOW,
        modified_at=NOW,
        scheduled_at=None,
        completed_at=None,
        deployment="dp_1",
        retry=0,
        last_failure=None,
        invoked_by=None,
        detached=False,
        batch=None,
        idempotency_key=None,
    )
    return msgspec.structs.replace(view, **changed)


def a_batch(submit: Submit, **changed: Any) -> BatchView:
    counts = ("matched", "ended", "applied", "signalled", "ended_by_other", "already_signalled", "not_applicable")
    view = BatchView(
        id=submit.request,
        action=submit.action,
        filter={},
        reason=submit.reason,
        principal=submit.principal,
        dry_run=submit.dry_run,
        state="accepted",
        settled=False,
        submitted_at=NOW,
        finished_at=None,
        **dict.fromkeys(counts, 0),
        failed=0,
        propagated=0,
        remaining=None,
        rate_per_s=0.0,
        guard=None,
        rate=submit.rate,
        deployment=submit.deployment,
        grace_s=None if submit.grace is None else submit.grace / 1e6,
        awaits_grace=False,
        retry_of=None,
        revision=0,
        members=None,
        refusal=None,
        progress_fraction=0.0,
        stalled=(),
        partitions=(),
    )
    return msgspec.structs.replace(view, **changed)


class StubDispatcher:
    """Participants' sessions: one of each id that was opened, with a stream of what a test has put there."""

    def __init__(self, gateway: "StubGateway") -> None:
        self._gateway = gateway
        self.chunks: list[bytes] = []
        self.reported: list[Reported] = []
        self._open: set[str] = set()

    def open(self, deployment: str, capacity: int) -> str:
        self._gateway._take("open", deployment, capacity)
        self._open.add(f"session_{len(self._open) + 1}")
        return f"session_{len(self._open)}"

    def stream(self, id: str) -> AsyncIterator[bytes]:
        self._check(id)
        return self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    async def report(self, id: str, body: bytes) -> list[Reported]:
        self._check(id)
        self._gateway._take("report", id, body)
        return self.reported

    def leave(self, id: str) -> None:
        self._check(id)
        self._open.discard(id)

    def _check(self, id: str) -> None:
        if id not in self._open:
            raise NotFoundError(f"session {id} is over; open another")


class StubBatches:
    def __init__(self, gateway: "StubGateway") -> None:
        self._gateway = gateway
        self.states: list[BatchView] = []
        """What a watcher is shown after the batch as it stands."""
        self.pause_s = 0.0
        """Between two of those."""
        self.retries_are_new = True
        self._submitted: dict[str, tuple[Submit, BatchView]] = {}

    async def submit(self, submit: Submit) -> tuple[BatchView, bool]:
        self._gateway._take("submit", submit)
        if submit.request in self._submitted:
            first, view = self._submitted[submit.request]
            if not repeats(first, submit):
                raise ConflictError(f"batch {submit.request} was submitted with another body")
            return view, False
        view = a_batch(submit)
        self._submitted[submit.request] = (submit, view)
        return view, True

    async def control(
        self, request: str, *, paused: bool | None = None, aborted: bool = False, rate: int | None = None
    ) -> BatchView:
        self._gateway._take("control", request, paused, aborted, rate)
        view = self.get(request)
        if view is None:
            raise NotFoundError(f"there is no batch {request}, or no longer")
        if view.state in TERMINAL:
            raise ConflictError(f"batch {request} is {view.state}; nothing of it is left to change")
        return self.change(request, state="aborted" if aborted else "paused" if paused else "running", rate=rate)

    async def retry(self, request: str) -> tuple[BatchView, bool]:
        self._gateway._take("retry", request)
        view = self.get(request)
        if view is None:
            raise NotFoundError(f"there is no batch {request}, or no longer")
        return msgspec.structs.replace(view, id=f"{request}.retry-1"), self.retries_are_new

    def change(self, request: str, **changed: Any) -> BatchView:
        submit, view = self._submitted[request]
        self._submitted[request] = (submit, msgspec.structs.replace(view, **changed))
        return self._submitted[request][1]

    def get(self, request: str) -> BatchView | None:
        return self._submitted[request][1] if request in self._submitted else None

    def list(self, *, limit: int | None = None, after: str | None = None) -> Sequence[BatchView]:
        if after is not None and not after.isdigit():
            raise CallerError("cursor is none that a listing gave; start without one", field="cursor")
        return [view for _, view in self._submitted.values()][int(after or 0) :][:limit]

    def cursor(self, last: BatchView) -> str:
        return str([*self._submitted].index(last.id) + 1)

    async def watch(self, request: str) -> AsyncIterator[BatchView]:
        view = self.get(request)
        assert view is not None
        yield view
        try:
            for state in self.states:
                await asyncio.sleep(self.pause_s)
                yield state
        finally:
            self._gateway.asked.append(("stopped watching", request))


class StubGateway:
    partitions = 2

    def __init__(self, *rows: InvocationView) -> None:
        self.rows = list(rows)
        self.asked: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None
        self.answer: Callable[[str], Answer] = lambda id: Answer(7, 200, id, "completed")
        self.reasons: list[str] = []
        self.restarted_as: str | None = None
        self.chunks_given = 0
        self.breaks_after: int | None = None
        """Chunks of a listing after which it fails."""
        self.endings: dict[str, Ending] = {}
        self.registry = Registry()
        self.batches = StubBatches(self)
        self.dispatcher = StubDispatcher(self)
        self._by_idempotency_key: dict[str, str] = {}

    def _take(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.fails is not None:
            fails, self.fails = self.fails, None
            raise fails

    # -- invocations -----------------------------------------------------------------------------------------

    async def act(self, action: Action, id: str, *, deployment: str | None = None) -> Answer:
        ids.partition_of(id, self.partitions)
        self._take("act", action, id, deployment)
        return self.answer(id)

    async def start_invocation(
        self,
        service: str,
        handler: str,
        *,
        key: str | None = None,
        input: bytes | None = None,
        headers: dict[str, str] | None = None,
        delay_us: int = 0,
        idempotency_key: str | None = None,
    ) -> Answer:
        self._take("start", service, key, handler, input, headers, delay_us, idempotency_key)
        id = ids.invocation_id(1, len(self.asked))
        if idempotency_key is not None:
            first = self._by_idempotency_key.setdefault(idempotency_key, id)
            if first != id:
                return Answer(1, 200, first, "running")
        return Answer(1, 202, id, "scheduled" if delay_us else "ready")

    async def ending(self, id: str, timeout_s: float) -> Ending:
        ids.partition_of(id, self.partitions)
        self._take("ending", id, timeout_s)
        if id not in self.endings:
            raise NotFoundError(f"{id} is not there, or no longer")
        return self.endings[id]

    async def register(self, register: Register) -> tuple[Deployment, bool]:
        self._take("register", register)
        known = self.registry.get(register.deployment)
        self.registry = self.registry.with_registered(register, 0)
        found = self.registry.get(register.deployment)
        assert found is not None
        if found.services != register.services:
            raise ConflictError(f"deployment {register.deployment} was registered with other services")
        return found, known is None

    def deployments(self) -> list[Deployment]:
        return list(reversed(self.registry.deployments))

    async def import_rows(self, lines: AsyncIterator[bytes]) -> ImportReport:
        report = ImportReport()
        number = 0
        async for line in lines:
            number += 1
            try:
                parse_row(line)
                report.imported += 1
            except CallerError as error:
                report.refuse(number, str(error))
        self._take("import", number)
        return report

    async def invocation(self, id: str) -> InvocationDetails | None:
        ids.partition_of(id, self.partitions)
        self._take("invocation", id)
        row = next((row for row in self.rows if row.id == id), None)
        if row is None:
            return None
        return InvocationDetails(
            **msgspec.structs.asdict(row),
            attempt=1,
            next_retry_at=None,
            restarted_from=None,
            restarted_as=self.restarted_as,
        )

    async def invocations(
        self, filter: Filter, *, limit: int | None, after: str | None
    ) -> AsyncIterator[list[InvocationView]]:
        self._take("invocations", filter, limit, after)
        if after is not None and not after.isdigit():
            raise CallerError("cursor is none that a listing gave; start without one", field="cursor")
        found = self.rows[int(after or 0) :][:limit]
        for start in range(0, len(found), CHUNK):
            if self.chunks_given == self.breaks_after:
                raise RuntimeError("the store is gone")
            self.chunks_given += 1
            yield found[start : start + CHUNK]
            await asyncio.sleep(0)

    def cursor(self, last: InvocationView) -> str:
        return str(self.rows.index(last) + 1)

    # -- standing --------------------------------------------------------------------------------------------

    async def partition_views(self) -> list[PartitionView]:
        self._take("partitions")
        pending = PendingBatchView(id="b", action="kill", position=3, cursor_fraction=0.5, matched=9, paused=False)
        return [
            PartitionView(
                partition=number,
                owner="worker-0 (pid 1)",
                failure=None,
                position=41,
                end=44,
                lag=2,
                level=1,
                tick=12,
                pending=[pending],
                works=1,
                held=3,
                backlog=4,
                records=40,
                longest_step_us=2_500,
                unpublished=5,
                snapshot_position=None,
                snapshot_at=None,
                snapshot_failures=0,
            )
            for number in range(self.partitions)
        ]

    def unready(self) -> list[str]:
        return self.reasons

    sessions_elsewhere: str | None = None

    def sessions_view(self) -> DispatchView:
        return DispatchView(2, 7, 1)
