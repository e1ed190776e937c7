"""Owners in other processes: found by their group, heard over a stream, asked over HTTP.

Each member of the group is listened to, whatever it owns: its word counts for a partition as long as the group says
that the partition is its own. What was applied, and the answers, may be taken from anyone, because they are the same
whoever has worked them out. An answer to a question must be as new as what was told; the question says how new that is.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec
import structlog

from coordinator.model import framing
from coordinator.model.errors import CallerError, CorruptionError
from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.runtime.channel import TOLD, Applied, Standing, Told
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.group import questions
from coordinator.runtime.group.directory import Directory, Member
from coordinator.runtime.group.questions import ANSWERS, Question, Refusal
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.owners import OnTold
from coordinator.runtime.views import Cursor, Ending, InvocationDetails, Listed, PartitionSummary

SILENT_S: Final = 4.0
"""A stream without a sign of life for so long is broken; one comes every second."""
ANSWER_S: Final = 60.0
"""A page of a listing may pass over all rows of a partition."""
_CONNECT_S: Final = 2.0
_AGAIN_S: Final = 0.5
_FRAME_BYTES_MAX: Final = 64 << 20

_encode: Final = msgspec.msgpack.Encoder().encode
_refusal: Final = msgspec.msgpack.Decoder(Refusal)


class _MovedError(Exception):
    """Whoever was asked does not own the partition, or is not there."""


class RemoteOwners:
    """Everything in one event loop."""

    def __init__(self, directory: Directory, partitions: int) -> None:
        """`directory` is that of the group of owners."""
        self._watch: Final = Watch(directory, self._members)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_S, connect=_CONNECT_S), limits=httpx.Limits(max_connections=None)
        )
        self._owners: dict[int, str] = {}
        """The address of each partition's owner."""
        self._standings: dict[str, dict[int, Standing]] = {}
        """What each member that is heard says of partitions."""
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._silent: dict[str, asyncio.Event] = {}
        """Set while a member was heard and is not heard any more."""
        self._known = [-1] * partitions
        """The newest position that was told of each partition."""
        self._queries = [RemoteQueries(self, number) for number in range(partitions)]
        self._on_told: OnTold = lambda told: None

    @property
    def watch(self) -> Watch:
        """What is known of the group."""
        return self._watch

    def start(self, on_told: OnTold) -> None:
        """Begin to look for owners and to listen to them."""
        self._on_told = on_told
        self._watch.start()

    def standing(self, partition: int) -> Standing | None:
        """The newest word of the partition's owner, None while it has none or is not heard."""
        return self._standings.get(self._owners.get(partition, ""), {}).get(partition)

    def owner(self, partition: int) -> str | None:
        """The address of the partition's owner, None while it has none or is not heard."""
        return self._owners[partition] if self.standing(partition) is not None else None

    def queries(self, partition: int) -> "RemoteQueries":
        """Questions to this partition."""
        return self._queries[partition]

    async def close(self) -> None:
        """Stop listening."""
        await self._watch.close()
        for task in self._listening.values():
            task.cancel()
        await asyncio.gather(*self._listening.values(), return_exceptions=True)
        await self._http.aclose()

    # -- who they are ----------------------------------------------------------------------------------------

    def _members(self, members: Sequence[Member]) -> None:
        self._owners = {partition: member.address for member in members for partition in member.partitions}
        addresses = {member.address for member in members}
        for address in addresses - self._listening.keys():
            self._silent[address] = asyncio.Event()
            self._listening[address] = asyncio.create_task(self._listen(address))
        for address in self._listening.keys() - addresses:
            self._listening.pop(address).cancel()
            self._silent.pop(address).set()

    async def _listen(self, address: str) -> None:
        """Hear what a member tells, for as long as it is one."""
        silent = self._silent[address]
        logger = structlog.get_logger().bind(address=address)
        timeout = httpx.Timeout(SILENT_S, connect=_CONNECT_S)
        said = False
        while True:
            try:
                async with self._http.stream("GET", f"http://{address}/internal/told", timeout=timeout) as response:
                    response.raise_for_status()
                    self._standings[address] = {}
                    silent.clear()
                    said = False
                    splitter = framing.Splitter(_FRAME_BYTES_MAX)
                    async for chunk in response.aiter_raw():
                        for value in splitter.feed(chunk):
                            self._heard(address, TOLD.decode(value))
            except (httpx.HTTPError, httpx.InvalidURL, CallerError, msgspec.DecodeError) as error:
                if not said:
                    said = True
                    logger.warning("owner_not_heard", error=str(error) or type(error).__name__)
            except Exception:
                logger.exception("owner_not_heard")
            finally:
                self._standings.pop(address, None)
                silent.set()
            self._watch.look()
            await asyncio.sleep(_AGAIN_S)

    def _heard(self, address: str, told: Told) -> None:
        if isinstance(told, Applied):
            self._known[told.partition] = max(self._known[told.partition], told.position)
            self._on_told(told)
            return
        self._standings[address][told.partition] = told
        if self._owners.get(told.partition) == address:
            self._on_told(told)
        elif told.took_over:
            self._watch.look()

    # -- asking them -----------------------------------------------------------------------------------------

    def known(self, partition: int) -> int:
        """The newest position that was told of the partition."""
        return self._known[partition]

    async def ask(self, partition: int, question: Question) -> Any:
        """The owner's answer; where the partition has just moved, the next owner's.

        Raises UnavailableError when nobody answers, CorruptionError when the store is damaged.
        """
        try:
            return await self._ask(partition, question)
        except _MovedError:
            await self._watch.looked()
        try:
            return await self._ask(partition, question)
        except _MovedError as error:
            raise UnavailableError(str(error)) from error

    async def _ask(self, partition: int, question: Question) -> Any:
        address = self._owners.get(partition)
        if address is None:
            raise _MovedError(f"partition {partition} has no owner now; try again in a moment")
        response = await self._post(address, f"/internal/partitions/{partition}", _encode(question))
        if response is None:
            raise _MovedError(f"partition {partition} is owned by {address}, which does not answer")
        if response.status_code == questions.ANSWERED:
            return ANSWERS[type(question)].decode(response.content)
        text = f"partition {partition} is owned by {address}, which answers {response.status_code}"
        with contextlib.suppress(msgspec.DecodeError):
            text = _refusal.decode(response.content).text
        if response.status_code == questions.NOT_OWNED:
            raise _MovedError(f"partition {partition} has no owner now; try again in a moment")
        if response.status_code == questions.DAMAGED:
            raise CorruptionError(text)
        raise UnavailableError(text)

    async def _post(self, address: str, path: str, body: bytes) -> httpx.Response | None:
        """The answer; None when there is none, or when the process falls silent, as one does that is stopped."""
        asking = asyncio.create_task(self._http.post(f"http://{address}{path}", content=body))
        silence = asyncio.create_task(self._silent[address].wait())
        try:
            await asyncio.wait({asking, silence}, return_when=asyncio.FIRST_COMPLETED)
            return await asking if asking.done() else None
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        finally:
            asking.cancel()
            silence.cancel()


class RemoteQueries:
    """Questions to one partition, wherever its owner is."""

    def __init__(self, owners: RemoteOwners, partition: int) -> None:
        self._owners: Final = owners
        self._partition: Final = partition

    @property
    def _known(self) -> int:
        return self._owners.known(self._partition)

    async def summary(self) -> PartitionSummary:
        """What the store says of the partition itself."""
        found: PartitionSummary = await self._ask(questions.AskSummary(self._known))
        return found

    async def invocation(self, id: str) -> InvocationDetails | None:
        """One invocation, None when it is not there or a batch in force has purged it."""
        found: InvocationDetails | None = await self._ask(questions.AskInvocation(self._known, id))
        return found

    async def endings(self, ids: Sequence[str]) -> dict[str, Ending]:
        """These invocations; without those that are not there or that a batch in force has purged."""
        found: dict[str, Ending] = await self._ask(questions.AskEndings(self._known, list(ids)))
        return found

    async def page(self, filter: Filter, after: Cursor | None, limit: int) -> list[Listed]:
        """The first so many that match behind a cursor, newest first, then by id; fewer only at the end."""
        found: list[Listed] = await self._ask(questions.AskPage(self._known, filter, after, limit))
        return found

    async def service_type(self, service: str) -> ServiceType | None:
        """What kind of service its invocations show, None when there are none."""
        found: int | None = await self._ask(questions.AskServiceType(self._known, service))
        return None if found is None else ServiceType(found)

    async def _ask(self, question: Question) -> Any:
        return await self._owners.ask(self._partition, question)
