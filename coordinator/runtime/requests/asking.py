"""Asking the coordinator, wherever it runs: a record on `requests`, and waiting until it is read."""

import asyncio
from typing import Final

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model import messages
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.requests.port import Requests

ANSWER_TIMEOUT_S: Final = 30.0


async def ask(log: Log, requests: Requests, message: messages.Message) -> None:
    """Append to `requests`, and wait until what the record does is seen in `requests`.

    Raises UnavailableError when the log takes nothing or the coordinator does not read it in time; it may still.
    """
    entry = Entry(Stream.REQUESTS, 0, messages.encode(message))
    try:
        [position] = await asyncio.wrap_future(log.submit([entry]))
    except LogError as error:
        raise UnavailableError(f"the log takes no appends now: {error}") from error
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await asyncio.wrap_future(requests.applied(position))
    except TimeoutError:
        raise UnavailableError("the coordinator did not take the request in time; ask for it again") from None
