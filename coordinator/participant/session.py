"""One session: listens to its deliveries, sends the reports of its attempts, and shows that it lives.

One request with reports is under way at a time, and what is reported meanwhile goes with the next. So under load
many reports go together, and reports of one invocation never overtake each other.

What breaks is tried again until the server says that the session is over. Then the attempts are of no use any more:
they are delivered again, to the next session or to another participant.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import structlog

from coordinator.model import framing, messages
from coordinator.model.errors import CoordinatorError, TransientError
from coordinator.participant.backoff import Backoff
from coordinator.participant.runner import Runner, body_of
from coordinator.participant.transport import Transport

LEAVE_S: Final = 3.0
"""How long leaving may take for each of its parts; after that the lease does the rest."""


class Session:
    """A session that was opened."""

    def __init__(self, transport: Transport, id: str, lease_s: float, runner: Runner) -> None:
        self._transport = transport
        self._id = id
        self._heartbeat_s: Final = lease_s / 3
        self._runner = runner
        self._taken: list[messages.Report] = []
        """Reports that are under way."""
        self._heard_at = 0.0
        """When the last request began, by the clock of the loop."""

    async def run(self) -> None:
        """Until it is over, which raises NotFoundError; or until it is cancelled, and then leave."""
        tasks = [asyncio.create_task(part()) for part in (self._listen, self._send, self._beat)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()  # they end only by an error
        except asyncio.CancelledError:
            await _stop(tasks)
            await self._leave()
            raise
        finally:
            await _stop(tasks)
            await self._runner.close(LEAVE_S)

    async def _listen(self) -> None:
        backoff = Backoff()
        while True:
            splitter = framing.Splitter()
            try:
                async with contextlib.aclosing(self._transport.deliveries(self._id)) as chunks:
                    async for chunk in chunks:
                        backoff.succeeded()
                        for value in splitter.feed(chunk):
                            self._deliver(value)
            except TransientError as error:
                _log().warning("deliveries broke off", session=self._id, error=str(error))
            await backoff.pause()

    def _deliver(self, value: bytes) -> None:
        try:
            message = messages.decode_delivery(value)
        except messages.UNREADABLE as error:
            # Of a newer server perhaps. Whoever sent it has it; an attempt that misses it is suspended and comes again.
            _log().error("delivery not understood", session=self._id, error=str(error))
        else:
            self._runner.deliver(message)

    async def _send(self) -> None:
        backoff = Backoff()
        while True:
            if not self._taken:  # what did not go is tried again, whether or not there is more to say
                await self._runner.something_to_report.wait()
            try:
                await self._send_some()
                backoff.succeeded()
            except TransientError as error:
                _log().warning("reports did not go", session=self._id, reports=len(self._taken), error=str(error))
                await backoff.pause()

    async def _send_some(self) -> None:
        """Send what there is, or, after a failure, the same once more."""
        if not self._taken:
            self._taken = self._runner.take()
        while self._taken:
            count, body = body_of(self._taken)
            self._heard_at = asyncio.get_running_loop().time()
            answers = await self._transport.report(self._id, body)
            if len(answers) != count:
                raise TransientError(f"{len(answers)} of {count} reports were answered; they are sent again")
            sent, self._taken = self._taken[:count], self._taken[count:]
            self._runner.answered(sent, answers)

    async def _beat(self) -> None:
        """Renew the lease while nothing else does, also where a request takes its time."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        while True:
            due = max(self._heard_at + self._heartbeat_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self._complain(loop.time() - due)
            if loop.time() - self._heard_at < self._heartbeat_s:
                continue
            self._heard_at = loop.time()
            with contextlib.suppress(TransientError):  # the next one may get through
                await self._transport.report(self._id, b"")

    def _complain(self, late_s: float) -> None:
        """Say so where the loop stood still so long that the lease is at stake; nothing else tells why it was lost."""
        if late_s > self._heartbeat_s:
            _log().warning(
                "the event loop stood still; put what blocks or computes into a run with a plain function",
                session=self._id,
                seconds=round(late_s, 1),
            )

    async def _leave(self) -> None:
        """Say what is still to be said, then give everything back."""
        await self._runner.close(LEAVE_S)
        with contextlib.suppress(CoordinatorError, TimeoutError):  # then its lease ends it
            async with asyncio.timeout(LEAVE_S):
                while self._taken or self._runner.something_to_report.is_set():
                    await self._send_some()
        with contextlib.suppress(CoordinatorError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._transport.leave(self._id)


async def _stop(tasks: Iterable["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _log() -> structlog.typing.FilteringBoundLogger:
    return structlog.get_logger("coordinator.participant")  # type: ignore[no-any-return]  # as it is configured
