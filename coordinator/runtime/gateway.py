"""What the surfaces call: commands that wait for their answer, queries, and requests.

Lives in the event loop of the server process. It holds no state of its own that matters: what is waited for
here is on the log, and what is shown is in the stores.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import Final

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError, ConflictError, CorruptionError, NotFoundError
from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.model.statuses import Action
from coordinator.model.times import to_rfc3339
from coordinator.partition.outputs import Answer
from coordinator.requests import lifecycle, retries, submission
from coordinator.requests.deployments import Deployment, check
from coordinator.requests.state import Request
from coordinator.requests.view import BatchView, view
from coordinator.runtime.answers import Answers
from coordinator.runtime.channel import Applied, Told
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.dispatch.dispatcher import Dispatcher, DispatchView
from coordinator.runtime.dispatch.port import Sessions
from coordinator.runtime.endings import Endings
from coordinator.runtime.errors import BusyError, UnavailableError
from coordinator.runtime.imports import ImportReport, import_rows
from coordinator.runtime.listing import listing
from coordinator.runtime.owners import Owners
from coordinator.runtime.requests.port import Requests
from coordinator.runtime.views import (
    Cursor,
    Ending,
    InvocationDetails,
    InvocationView,
    PartitionSummary,
    PartitionView,
)

ANSWER_TIMEOUT_S: Final = 30.0
_WATCH_INTERVAL_S: Final = 0.25
_REFRESH_S: Final = 2.0
_SETTLE_GRACE_S: Final = 1.0
_APPEND_AGAIN_S: Final = 1.0


class Gateway:
    """The running system as one process sees it."""

    def __init__(self, log: Log, requests: Requests, owners: Owners, sessions: Sessions) -> None:
        self.partitions: Final = log.partitions(Stream.COMMANDS)
        self._log = log
        self._requests = requests
        self._owners = owners
        self._answers = [Answers() for _ in range(self.partitions)]
        self._queries = [owners.queries(number) for number in range(self.partitions)]
        self._endings = Endings(self._queries)
        self._sessions = sessions
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: dict[str, set[asyncio.Event]] = {}
        self._types: dict[str, ServiceType] = {}
        """Of keyed services, once known."""

    async def start(self) -> None:
        """Called in the event loop that everything else here is called in."""
        self._loop = asyncio.get_running_loop()
        self._requests.subscribe(self._request_changed)
        self._owners.start(self._on_told_anywhere)
        await self._sessions.start(self.apply)

    async def end_broken_imports(self) -> None:
        """An import that was under way when the server was killed has left keys that nobody hands on.

        For a process that alone takes imports, when it starts.
        """
        for number, queries in enumerate(self._queries):
            try:
                summary = await queries.summary()
            except CorruptionError:
                continue  # its owner says so; the other partitions go on
            if not summary.loose_keys:
                continue
            await self._append_surely(Entry(Stream.COMMANDS, number, messages.encode(messages.ImportEnd())))

    async def _append_surely(self, entry: Entry) -> None:
        """Append what does no harm twice, again and again until the log has it."""
        while True:
            try:
                await asyncio.wrap_future(self._log.submit([entry]))
                return
            except LogError:
                await asyncio.sleep(_APPEND_AGAIN_S)

    def end_waiting(self) -> None:
        """The server is ending: let go of those who wait for what may be long in coming."""
        self._sessions.end_streams()
        self._endings.close()

    async def close(self) -> None:
        """Stop to carry deliveries."""
        await self._sessions.close()

    # -- from the other threads ------------------------------------------------------------------------------

    def _on_told_anywhere(self, told: Told) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_told, told)

    def _on_told(self, told: Told) -> None:
        if isinstance(told, Applied):
            self._answers[told.partition].told(told.position, told.answers)
            self._endings.applied(told.partition)
        elif told.failure is not None:
            self._answers[told.partition].fail(UnavailableError(_stands_still(told.partition, told.failure)))

    def _request_changed(self, request: str) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_watchers, request)

    def _wake_watchers(self, request: str) -> None:
        for event in self._changed.get(request, ()):
            event.set()

    # -- commands --------------------------------------------------------------------------------------------

    async def send_all(self, commands: Sequence[tuple[int, messages.Command]]) -> list[Answer]:
        """Append commands to their partitions and wait until all are applied; their answers, in order.

        Raises UnavailableError when a partition has no owner; what was appended will still be applied.
        """
        return await self.apply(
            [Entry(Stream.COMMANDS, partition, messages.encode(command)) for partition, command in commands]
        )

    async def apply(self, entries: Sequence[Entry]) -> list[Answer]:
        """`send_all`, of commands that are encoded already."""
        for partition in {entry.partition for entry in entries}:
            self._check_owned(partition)
        for entry in entries:
            if len(entry.value) > limits.RECORD_BYTES_MAX:
                raise CallerError(f"a record may have {limits.RECORD_BYTES_MAX} bytes; this one has {len(entry.value)}")
        try:
            positions = await asyncio.wrap_future(self._log.submit(entries))
        except LogError as error:
            raise UnavailableError(f"the log takes no appends now: {error}") from error
        by_partition: dict[int, list[int]] = {}
        for entry, position in zip(entries, positions, strict=True):
            by_partition.setdefault(entry.partition, []).append(position)
        found: dict[tuple[int, int], Answer] = {}
        for partition, there in by_partition.items():
            try:
                for answer in await self._answers[partition].at(there, ANSWER_TIMEOUT_S):
                    found[partition, answer.position] = answer
            except TimeoutError:
                raise UnavailableError(f"partition {partition} did not answer in {ANSWER_TIMEOUT_S:.0f} s") from None
        return [found[entry.partition, position] for entry, position in zip(entries, positions, strict=True)]

    async def send(self, partition: int, command: messages.Command) -> Answer:
        """Append one command and wait for its answer."""
        return (await self.send_all([(partition, command)]))[0]

    def _check_owned(self, partition: int) -> None:
        standing = self._owners.standing(partition)
        if standing is None:
            raise UnavailableError(f"partition {partition} has no owner yet; try again in a moment")
        if standing.failure is not None:
            raise UnavailableError(_stands_still(partition, standing.failure))

    async def act(self, action: Action, id: str, *, deployment: str | None = None) -> Answer:
        """An action on one invocation. Raises CallerError when the deployment is not registered."""
        self._check_deployment(deployment)
        partition = ids.partition_of(id, self.partitions)
        return await self.send(partition, messages.Act(action=action, id=id, deployment=deployment))

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
        """Create an invocation, at once or after a delay; a repeated idempotency key answers with the first.

        Raises NotFoundError when its service is registered and has no such handler, CallerError when it cannot be
        addressed so.
        """
        registry = self._requests.deployments()
        registry.check_target(service, handler, key)
        terms = registry.terms(service, handler, key, idempotency_key)
        type = terms.type if service in registry.latest or key is None else await self._type_of(service)
        if key is not None:
            partition_key = ids.key_partition_key(key)
        elif idempotency_key is not None:
            partition_key = ids.key_partition_key(ids.once(service, handler, idempotency_key))
        else:
            partition_key = random.getrandbits(64)
        id = ids.invocation_id(partition_key, secrets.randbits(128))
        invoke = messages.Invoke(
            id=id,
            service=service,
            handler=handler,
            key=key,
            type=int(type),
            shared=terms.shared,
            input=input,
            headers=headers or {},
            due_at=wall_clock_us() + delay_us if delay_us > 0 else None,
            idempotency_key=idempotency_key,
            retention=terms.retention,
        )
        answer = await self.send(ids.partition_of(id, self.partitions), invoke)
        if answer.code == 400:
            raise CallerError(answer.detail or "it was refused")
        return answer._replace(code=202) if answer.id == id else answer

    async def _type_of(self, service: str) -> ServiceType:
        """One that nobody has registered is a virtual object unless its invocations so far were of a workflow."""
        known = self._types.get(service)
        if known is None:
            known = await self._stored_type(service)
            if known is None:
                return ServiceType.VIRTUAL_OBJECT
            self._types[service] = known
        return known

    async def _stored_type(self, service: str) -> ServiceType | None:
        for queries in self._queries:
            try:
                found = await queries.service_type(service)
            except (CorruptionError, UnavailableError):
                continue  # one partition that stands still must not keep the others from starting anything
            if found is not None and found is not ServiceType.SERVICE:
                return found
        return None

    async def import_rows(self, lines: AsyncIterator[bytes]) -> ImportReport:
        """Import lines of JSON in Restate's sys_invocation columns; answers when all are applied."""
        return await import_rows(lines, self.partitions, self.send_all)

    # -- queries ---------------------------------------------------------------------------------------------

    async def invocation(self, id: str) -> InvocationDetails | None:
        """One invocation, None when there is none of that id. Raises UnavailableError when its store is damaged."""
        queries = self._queries[ids.partition_of(id, self.partitions)]
        with _damage_said():
            return await queries.invocation(id)

    async def ending(self, id: str, timeout_s: float) -> Ending:
        """How an invocation has ended, or how it stands when the time is up.

        Raises NotFoundError when there is none of that id, or no longer.
        """
        return await self._endings.of(id, ids.partition_of(id, self.partitions), timeout_s)

    async def invocations(
        self, filter: Filter, *, limit: int | None, after: str | None
    ) -> AsyncIterator[list[InvocationView]]:
        """What matches, in chunks, newest first, then by id; behind a cursor if one is given.

        Raises UnavailableError when a partition does not answer or its store is damaged: a list without its rows
        would pass for a whole one.
        """
        with _damage_said():
            async for chunk in listing(self._queries, filter, None if after is None else Cursor.parse(after), limit):
                yield chunk

    def cursor(self, last: InvocationView) -> str:
        """The cursor of a listing that goes on behind this one."""
        return Cursor.behind(last.created_at, last.id).text()

    async def partition_views(self) -> list[PartitionView]:
        """How the partitions stand."""
        return await asyncio.gather(*(self._partition_view(number) for number in range(self.partitions)))

    async def _partition_view(self, number: int) -> PartitionView:
        standing = self._owners.standing(number)
        failure = None if standing is None else standing.failure
        summary = PartitionSummary()
        try:
            summary = await self._queries[number].summary()
        except CorruptionError as error:
            # Seen here before its owner has come upon it.
            failure = failure or str(error)
        except UnavailableError:
            pass  # shown by its having no owner
        end = await asyncio.to_thread(lambda: self._log.bounds(Stream.COMMANDS, number).end)
        return PartitionView(
            partition=number,
            owner=self._owners.owner(number),
            failure=failure,
            position=summary.position,
            end=end,
            lag=end - summary.position - 1,
            level=summary.level,
            tick=summary.tick,
            pending=summary.pending,
            works=summary.works,
            held=summary.held,
            backlog=summary.backlog,
            records=0 if standing is None else standing.records,
            longest_step_us=0 if standing is None else standing.longest_step_us,
            snapshot_position=None if standing is None else standing.snapshot_position,
            snapshot_at=None if standing is None or standing.snapshot_at is None else to_rfc3339(standing.snapshot_at),
            snapshot_failures=0 if standing is None else standing.snapshot_failures,
        )

    @property
    def unowned(self) -> list[int]:
        """Partitions that nobody has taken over and that do not stand still either."""
        found = ((number, self._owners.standing(number)) for number in range(self.partitions))
        return [number for number, one in found if one is None or not (one.took_over or one.failure)]

    def unready(self) -> list[str]:
        """Why not all commands can be taken; empty when they can."""
        reasons = [f"partition {number} has no owner yet" for number in self.unowned]
        for number in range(self.partitions):
            standing = self._owners.standing(number)
            if standing is not None and standing.failure is not None:
                reasons.append(_stands_still(number, standing.failure))
        if self._requests.failure is not None:
            reasons.append(f"the coordinator stands still: {self._requests.failure}")
        if self._sessions.failure is not None:
            reasons.append(self._sessions.failure)
        elif not self._sessions.anywhere:
            reasons.append("no process is the coordinator now")
        return reasons

    # -- participants ----------------------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Dispatcher:
        """Participants' sessions. Raises UnavailableError when they are not in this process."""
        return self._sessions.dispatcher

    @property
    def sessions_elsewhere(self) -> str | None:
        """HOST:PORT of the process that has the sessions; None when that is this one, or is not known."""
        return self._sessions.elsewhere

    def sessions_view(self) -> DispatchView:
        """How the sessions of this process stand."""
        return self._sessions.view()

    async def register(self, register: messages.Register) -> tuple[Deployment, bool]:
        """Make a deployment known; as it is registered, and whether it is new.

        Raises CallerError when it cannot be meant so, ConflictError when its id has other services, BusyError when
        no more go.
        """
        check(register)
        known = self._requests.deployments().get(register.deployment)
        new = known is None
        if known is None:
            await self._append_to_requests(register)
            known = self._requests.deployments().get(register.deployment)
        if known is None:
            raise BusyError(f"{limits.DEPLOYMENTS_MAX} deployments are registered and no more go")
        if known.services != register.services:
            raise ConflictError(
                f"deployment {register.deployment} was registered with other services; give another version of the "
                "code another id"
            )
        return known, new

    def deployments(self) -> list[Deployment]:
        """All deployments, the latest first."""
        return list(reversed(self._requests.deployments().deployments))

    # -- requests --------------------------------------------------------------------------------------------

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
            known = await self._append_request(submit.request, submit)
            if known.submission is not None and known.submission == submit:
                return view(known, wall_clock_us()), True
        if known.submission is None or not submission.repeats(known.submission, submit):
            raise ConflictError(f"batch {submit.request} was submitted with another body; use another request id")
        return view(known, wall_clock_us()), False

    def _check_names(self, submit: messages.Submit) -> None:
        """What a new batch names must be there: a name that is misspelt would do nothing, or what nobody can run."""
        self._check_deployment(submit.deployment)
        killed_by = submit.filter.killed_by
        if killed_by is not None and self.batch(killed_by) is None:
            raise CallerError(f"there is no batch {killed_by}, or no longer", field="filter.killed_by")

    def _check_deployment(self, id: str | None) -> None:
        if id is not None and self._requests.deployments().get(id) is None:
            raise CallerError(
                f"deployment {id} is not registered; GET /deployments lists those that are", field="deployment"
            )

    async def control(
        self, request: str, *, paused: bool | None = None, aborted: bool = False, rate: int | None = None
    ) -> BatchView:
        """Change a batch that runs. An abort is answered when every partition has acknowledged it; it also calls off
        the grace of one that is over.

        Raises NotFoundError, ConflictError when the batch is over, and UnavailableError when an abort was not
        acknowledged in time; it holds all the same, from wherever it arrives.
        """
        known = self._requests.get(request)
        if known is None or known.submission is None:
            raise NotFoundError(f"there is no batch {request}, or no longer")
        before = view(known, wall_clock_us())
        if aborted and before.state == lifecycle.State.ABORTED:
            return before
        if before.finished_at is not None and not (aborted and before.awaits_grace):
            raise ConflictError(f"batch {request} is {before.state}; nothing of it is left to change")
        change = messages.RequestControl(request=request, paused=paused, aborted=aborted, rate=rate)
        await self._append_request(request, change)
        if aborted:
            return await self._until_over(request)
        if paused:
            await self._until_paused(request)
        after = self.batch(request)
        assert after is not None
        return after

    async def retry(self, request: str) -> tuple[BatchView, bool]:
        """Do again what has failed of a batch, as another batch; that one's view, and whether it is new.

        Raises NotFoundError, and ConflictError when the batch is not over or nothing of it has failed.
        """
        known = self._requests.get(request)
        if known is None or known.submission is None:
            raise NotFoundError(f"there is no batch {request}, or no longer")
        return await self.submit(retries.submission(known))

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

    async def _append_request(self, request: str, message: messages.Message) -> Request:
        await self._append_to_requests(message)
        state = self._requests.get(request)
        assert state is not None
        return state

    async def _append_to_requests(self, message: messages.Message) -> None:
        """Append to `requests`, and wait until the coordinator has read it."""
        entry = Entry(Stream.REQUESTS, 0, messages.encode(message))
        try:
            [position] = await asyncio.wrap_future(self._log.submit([entry]))
        except LogError as error:
            raise UnavailableError(f"the log takes no appends now: {error}") from error
        if not await asyncio.to_thread(self._requests.wait_applied, position, ANSWER_TIMEOUT_S):
            raise UnavailableError("the coordinator did not take the request in time; ask for it again")

    def batch(self, request: str) -> BatchView | None:
        """One batch, None when there is none of that id."""
        state = self._requests.get(request)
        return None if state is None or state.submission is None else view(state, wall_clock_us())

    def batches(self, *, limit: int | None = None, after: str | None = None) -> list[BatchView]:
        """Batches that are remembered, newest first, then by id; behind a cursor if one is given."""
        now = wall_clock_us()
        found = (state for state in self._requests.list() if state.submission is not None)
        if after is not None:
            behind = Cursor.parse(after)
            place = -behind.at, behind.id
            found = (state for state in found if (-state.submitted_at, state.id) > place)
        return [view(state, now) for state in islice(found, limit)]

    def batch_cursor(self, last: BatchView) -> str:
        """The cursor of a list of batches that goes on behind this one."""
        return Cursor.behind(last.submitted_at, last.id).text()

    async def watch(self, request: str) -> AsyncIterator[BatchView]:
        """The batch now and after each change, a few times a second at most, until it is over and settled."""
        changed = asyncio.Event()
        self._changed.setdefault(request, set()).add(changed)
        try:
            while (seen := self.batch(request)) is not None:
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


@contextlib.contextmanager
def _damage_said() -> Iterator[None]:
    """A damaged store as an answer to whoever asks for what is in it: a part of the system is away, and why."""
    try:
        yield
    except CorruptionError as error:
        raise UnavailableError(str(error)) from error


def _stands_still(partition: int, reason: str) -> str:
    return f"partition {partition} stands still: {reason}"
