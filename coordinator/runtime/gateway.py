"""What the surfaces call: commands that wait for their answer, queries, and requests.

Lives in the event loop of the server process. It holds no state of its own that matters: what is waited for
here is on the log, and what is shown is in the stores.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model import ids, limits, messages
from coordinator.model.errors import CallerError, ConflictError, CorruptionError
from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.model.statuses import Action
from coordinator.model.times import to_rfc3339
from coordinator.partition.outputs import Answer
from coordinator.requests.deployments import Deployment, check
from coordinator.runtime.answers import Answers
from coordinator.runtime.batches import Batches
from coordinator.runtime.channel import Applied, Told
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.dispatch.dispatcher import Dispatcher, DispatchView
from coordinator.runtime.dispatch.port import Sessions
from coordinator.runtime.endings import Endings
from coordinator.runtime.errors import BusyError, UnavailableError
from coordinator.runtime.imports import ImportEnds, ImportReport, import_rows
from coordinator.runtime.listing import listing
from coordinator.runtime.owners import Owners
from coordinator.runtime.requests.asking import ANSWER_TIMEOUT_S, ask
from coordinator.runtime.requests.port import Requests
from coordinator.runtime.views import (
    Cursor,
    Ending,
    InvocationDetails,
    InvocationView,
    PartitionSummary,
    PartitionView,
)


class Gateway:
    """The running system as one process sees it."""

    def __init__(self, log: Log, requests: Requests, owners: Owners, sessions: Sessions) -> None:
        self.partitions: Final = log.partitions(Stream.COMMANDS)
        self.batches: Final = Batches(log, requests)
        self._log = log
        self._requests = requests
        self._owners = owners
        self._answers = [Answers() for _ in range(self.partitions)]
        self._queries = [owners.queries(number) for number in range(self.partitions)]
        self._endings = Endings(self._queries)
        self._sessions = sessions
        self._loop: asyncio.AbstractEventLoop | None = None
        self._import_ends = ImportEnds(log, self.partitions)
        self._types: dict[str, ServiceType] = {}
        """Of keyed services, once known."""

    async def start(self) -> None:
        """Called in the event loop that everything else here is called in."""
        self._loop = asyncio.get_running_loop()
        self.batches.start()
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
            await self._import_ends.end(number)

    def end_waiting(self) -> None:
        """The server is ending: let go of those who wait for what may be long in coming."""
        self._sessions.end_streams()
        self._endings.close()

    async def close(self) -> None:
        """Stop to carry deliveries, and to end imports."""
        self._import_ends.close()
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
        self._requests.deployments().check_named(deployment)
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
        return await import_rows(lines, self.partitions, self.send_all, self._import_ends.end_later)

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
        with _log_said():
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
            unpublished=0 if standing is None else standing.unpublished,
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
            await ask(self._log, self._requests, register)
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


@contextlib.contextmanager
def _damage_said() -> Iterator[None]:
    """A damaged store as an answer to whoever asks for what is in it: a part of the system is away, and why."""
    try:
        yield
    except CorruptionError as error:
        raise UnavailableError(str(error)) from error


@contextlib.contextmanager
def _log_said() -> Iterator[None]:
    """What keeps the log from being asked, as an answer."""
    try:
        yield
    except LogError as error:
        raise UnavailableError(f"the log cannot be asked now: {error}") from error


def _stands_still(partition: int, reason: str) -> str:
    return f"partition {partition} stands still: {reason}"
