"""What the log says of one request: folded as the coordinator folds it, by the same machine.

The coordinator's state follows from `requests` and `progress` alone, and its machine is pure. So there is nothing to
ask: whoever steps it through the records of a request has what the coordinator has, and leaves the effects to that.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from coordinator.client.errors import ServerError
from coordinator.client.kafka.connection import Connection
from coordinator.client.kafka.reader import Found, Reader
from coordinator.logs.port import Stream
from coordinator.model import limits
from coordinator.model.errors import CallerError, CorruptionError
from coordinator.model.messages import Lapse, Register, RequestState, Submit
from coordinator.requests import lifecycle, machine, records
from coordinator.requests.deployments import Registry
from coordinator.requests.state import Request


class Seen(NamedTuple):
    """A request as of one position of each stream."""

    positions: Mapping[Stream, int]
    """The next ones to read."""
    request: Request | None = None
    answered: bool = False
    """The coordinator has told its state, so it has the submission."""

    @property
    def submitted(self) -> bool:
        """Whether there is such a request."""
        return self.request is not None and self.request.submission is not None


class Following:
    """One request as a reader comes upon what is told of it."""

    def __init__(self, id: str, seen: Seen, reader: Reader, partitions: int) -> None:
        """The reader begins where `seen` is; `partitions` is how many the commands have."""
        self.seen = seen
        self._id = id
        self._mark = id.encode()
        self._reader = reader
        self._partitions = partitions

    async def catch_up(self) -> Seen:
        """Read all that was there when the reader was opened. Raises LogError."""
        async for run in self._reader.so_far():
            self._take(run)
        return self.seen

    async def until(self, holds: Callable[[Seen], bool], timeout_s: float) -> bool:
        """Read on until it holds, or the time is up; whether it does."""
        ends = time.monotonic() + timeout_s
        while not holds(self.seen):
            left_s = ends - time.monotonic()
            if left_s <= 0:
                return False
            self._take(await self._reader.run(left_s))
        return True

    async def change(self, timeout_s: float) -> bool:
        """Read on until something is told of the request, or the time is up; whether something was."""
        before = self.seen.request
        return await self.until(lambda seen: seen.request is not before, timeout_s)

    async def check(self) -> None:
        """See that the brokers are there, of whom nothing was heard. Raises LogError."""
        await self._reader.check()

    def _take(self, run: Sequence[Found]) -> None:
        _, request, answered = self.seen
        for record in run:
            if self._mark in record.value:
                request, answered = self._folded(request, answered, record)
        self.seen = Seen(dict(self._reader.positions), request, answered)

    def _folded(self, request: Request | None, answered: bool, record: Found) -> tuple[Request | None, bool]:
        """Raises ServerError when it contradicts what is known."""
        said = _said(record)
        if said is None or isinstance(said, Register) or said.request != self._id:
            return request, answered
        if isinstance(said, RequestState):
            return request, True
        if isinstance(said, Lapse) and lifecycle.forgettable(request, record.at_us):
            return None, False
        try:
            return machine.step(request, said, record.at_us, self._partitions)[0], answered
        except CorruptionError as error:
            raise ServerError(str(error)) from error


@contextlib.asynccontextmanager
async def following(kafka: Connection, id: str, seen: Seen) -> AsyncIterator[Following]:
    """The request from where it was seen on. Raises LogError."""
    async with kafka.reader(seen.positions) as reader:
        yield Following(id, seen, reader, await kafka.partitions())


async def until(kafka: Connection, id: str, seen: Seen, holds: Callable[[Seen], bool], timeout_s: float) -> Seen:
    """The request once it holds, or as it is when the time is up. Raises UnreachableError and its like."""
    ends = time.monotonic() + timeout_s

    async def attempt() -> Seen:
        async with following(kafka, id, seen) as one:
            await one.until(holds, ends - time.monotonic())
            return one.seen

    return await kafka.patiently(attempt)


async def find(kafka: Connection, id: str) -> Seen:
    """The request as it is now, from as far back as the log goes. Raises LogError."""
    ends = await kafka.ends()
    first = await _first_submission(kafka, id)
    if first is None:
        return Seen(ends)
    # Of two brokers one's clock may be behind the other's.
    told = await kafka.since(Stream.PROGRESS, first.at_us - limits.CLOCK_SKEW_US)
    async with following(kafka, id, Seen({Stream.REQUESTS: first.position, Stream.PROGRESS: told})) as one:
        return await one.catch_up()


async def _first_submission(kafka: Connection, id: str) -> Found | None:
    mark = id.encode()
    async with kafka.reader({Stream.REQUESTS: 0}) as reader:
        async for run in reader.so_far():
            for record in run:
                if mark in record.value and isinstance(said := _said(record), Submit) and said.request == id:
                    return record
    return None


async def deployments(kafka: Connection) -> Registry:
    """The deployments that are registered. Raises LogError."""
    registry = Registry()
    async with kafka.reader({Stream.REQUESTS: 0}) as reader:
        async for run in reader.so_far():
            for record in run:
                if isinstance(said := _said(record), Register):
                    with contextlib.suppress(CallerError):  # it cannot be meant so, and the coordinator passes it over
                        registry = registry.with_registered(said, record.at_us)
    return registry


def _said(record: Found) -> machine.Event | Register | RequestState | None:
    """What a record says; None for one that the coordinator has passed over too."""
    try:
        return records.message(record.stream, record.value)
    except records.UnreadableError:
        return None
