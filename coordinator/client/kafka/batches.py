"""Batches over Kafka: asked for by records on `requests`, and shown as the records say that they are.

A submission may be on the log twice, after an append whose acknowledgement was lost: the first of an id counts, and it
is the same. A control says what is to be from now on, so it may come twice too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from coordinator.client.batch import Batch, Verb
from coordinator.client.errors import RejectedError, UnreachableError
from coordinator.client.kafka.connection import Connection, as_client_error
from coordinator.client.kafka.following import Seen, deployments, find, following, until
from coordinator.client.requests import BatchRequest, named
from coordinator.client.transport import Backoff, decode
from coordinator.client.views import Progress
from coordinator.logs.kafka import KafkaSettings, SettingsError
from coordinator.logs.kafka.settings import from_environment
from coordinator.logs.port import LogError, Stream
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.messages import RequestControl, Submit
from coordinator.requests import preconditions, retries, submission
from coordinator.requests.body import parse_submission
from coordinator.requests.state import Request
from coordinator.requests.view import view

_INTERVAL_S: Final = 0.25
"""Pause between two views of a batch, in which what is told gathers."""
_REFRESH_S: Final = 2.0
"""Silence after which a batch is shown again: its rate and who is silent depend on the time too."""
_SETTLE_S: Final = 1.0
"""Silence after which nothing more is waited for of a batch that is over."""
_PAUSED_S: Final = 2.0
"""How long a pause is waited for; it holds wherever it has arrived."""


class KafkaBatches:
    """Those of one log."""

    def __init__(self, url: str, properties: Mapping[str, str], patience_s: float) -> None:
        """Raises CallerError when the address or a setting cannot be meant so."""
        try:
            settings = KafkaSettings.of(url, from_environment() | dict(properties))
        except SettingsError as error:
            raise CallerError(str(error), field="url") from None
        self._kafka = Connection(settings, patience_s)

    async def submit(self, request: BatchRequest) -> "KafkaBatch":
        """See `Client.submit`."""
        submit = _submission(named(request))
        # Nobody else can have an id that was just made up.
        seen = await self._kafka.patiently(self._nothing) if request.request_id is None else None
        return await self.submitted(submit, seen)

    async def batch(self, id: str) -> "KafkaBatch":
        """See `Client.batch`."""
        seen = await self._kafka.patiently(lambda: find(self._kafka, id))
        return KafkaBatch(self, self._kafka, id, seen)

    async def close(self) -> None:
        """Disconnect."""
        await self._kafka.close()

    async def _nothing(self) -> Seen:
        return Seen(await self._kafka.ends())

    async def submitted(self, submit: Submit, seen: Seen | None = None) -> "KafkaBatch":
        """The batch that this submission is of. `seen` is what stands on the log under its id; None to look for it.

        Raises what `Client.submit` does.
        """
        kafka, id = self._kafka, submit.request
        if seen is None:
            seen = await kafka.patiently(lambda: find(kafka, id))
        if not seen.submitted:
            await self._check_names(submit)
            await kafka.patiently(lambda: kafka.append(submit))
        seen = await until(kafka, id, seen, lambda seen: seen.submitted and seen.answered, kafka.patience_s)
        if not (seen.submitted and seen.answered):
            raise UnreachableError(
                f"batch {id} is on the log and the coordinator has not answered in {kafka.patience_s:g} s; "
                "follow it under this id, or submit it again: it is the same one"
            )
        preconditions.check_repeats(preconditions.known(seen.request, id), submit)
        return KafkaBatch(self, kafka, id, seen)

    async def _check_names(self, submit: Submit) -> None:
        """What a new batch names must be there, as over HTTP. Raises RejectedError."""
        kafka, killed_by = self._kafka, submit.filter.killed_by
        if submit.deployment is not None:
            registered = await kafka.patiently(lambda: deployments(kafka))
            try:
                registered.check_named(submit.deployment)
            except CallerError as error:
                raise RejectedError(str(error), field=error.field) from None
        if killed_by is not None and not (await kafka.patiently(lambda: find(kafka, killed_by))).submitted:
            raise RejectedError(f"there is no batch {killed_by}, or no longer", field="filter.killed_by")


class KafkaBatch(Batch):
    """One of them. Several tasks may follow and change it at once: each reads for itself, from what was read last."""

    def __init__(self, batches: KafkaBatches, kafka: Connection, id: str, seen: Seen) -> None:
        """Raises NotFoundError when it is not there."""
        super().__init__(_shown(id, seen))
        self._batches = batches
        self._kafka = kafka
        self._seen = seen

    async def progress(self) -> AsyncIterator[Progress]:
        """See `Batch.progress`."""
        backoff = Backoff(self._kafka.patience_s)
        previous: Progress | None = None
        while True:
            try:
                async with following(self._kafka, self.id, self._seen) as one:
                    await one.catch_up()
                    while True:
                        backoff.succeeded()
                        self._take(one.seen)
                        if self.latest != previous:
                            yield self.latest
                        previous = self.latest
                        over = self.latest.over
                        if over and self.latest.settled:
                            return
                        if not over:
                            await asyncio.sleep(_INTERVAL_S)
                        if not await one.change(_SETTLE_S if over else _REFRESH_S):
                            if over:
                                return
                            await one.check()
            except LogError as error:
                if not (self._kafka.may_return(error) and backoff.failed()):
                    raise as_client_error(error) from error
                await backoff.pause()

    async def refresh(self) -> Progress:
        """See `Batch.refresh`."""
        return self._take(await self._kafka.patiently(self._caught_up))

    async def retry(self) -> Batch:
        """See `Batch.retry`."""
        await self.refresh()
        return await self._batches.submitted(retries.submission(self._request))

    async def set_rate(self, per_s: int) -> Progress:
        """See `Batch.set_rate`. Answers when it is on the log; partitions hear of it a little later."""
        if per_s < 0:
            raise RejectedError("rate must be a number of invocations a second, or 0 for no limit", field="rate")
        return await self._change(RequestControl(request=self.id, rate=per_s))

    async def _control(self, verb: Verb) -> Progress:
        paused = {"pause": True, "resume": False}.get(verb)
        return await self._change(RequestControl(request=self.id, paused=paused, aborted=verb == "abort"))

    async def _change(self, change: RequestControl) -> Progress:
        await self.refresh()
        if not preconditions.can_change(self._request, aborted=change.aborted):
            return self.latest
        position = await self._kafka.patiently(lambda: self._kafka.append(change))
        await self._until(lambda seen: seen.positions[Stream.REQUESTS] > position, self._kafka.patience_s)
        if change.paused:
            await self._until(lambda seen: preconditions.paused(_request(seen)), _PAUSED_S)
        if change.aborted and not await self._until(
            lambda seen: preconditions.over(_request(seen)), self._kafka.patience_s
        ):
            raise UnreachableError(f"not every partition has acknowledged the abort of {self.id}; watch it to its end")
        return self.latest

    async def _caught_up(self) -> Seen:
        async with following(self._kafka, self.id, self._seen) as one:
            return await one.catch_up()

    async def _until(self, holds: Callable[[Seen], bool], timeout_s: float) -> bool:
        seen = await until(self._kafka, self.id, self._seen, holds, timeout_s)
        self._take(seen)
        return holds(seen)

    def _take(self, seen: Seen) -> Progress:
        """Show it, and go on from there, unless another task has read on further."""
        self.latest = _shown(self.id, seen)
        if all(seen.positions[stream] >= position for stream, position in self._seen.positions.items()):
            self._seen = seen
        return self.latest

    @property
    def _request(self) -> Request:
        return _request(self._seen)


def _request(seen: Seen) -> Request:
    assert seen.request is not None, "what is shown was submitted"
    return seen.request


def _shown(id: str, seen: Seen) -> Progress:
    """It as a server would show it now. Raises NotFoundError when it was not submitted, or is forgotten."""
    shown = view(preconditions.known(seen.request, id), wall_clock_us())
    return decode(msgspec.json.encode(shown), Progress)


def _submission(request: BatchRequest) -> Submit:
    """What is asked for, as a server would understand it. Raises RejectedError."""
    body = msgspec.json.encode(request.to_json())
    try:
        if len(body) > limits.REQUEST_BYTES_MAX:
            raise CallerError(f"the body may have {limits.REQUEST_BYTES_MAX} bytes here")
        submit = parse_submission(body, wall_clock_us(), "")
        objection = submission.objection(submit)
        if objection is not None:
            raise CallerError(objection)
    except CallerError as error:
        raise RejectedError(str(error), field=error.field) from None
    return submit


def wall_clock_us() -> int:
    """The time of this machine, microseconds."""
    return time.time_ns() // 1_000
