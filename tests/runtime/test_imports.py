"""Imports whose end cannot be told to the partitions: they hear of it as soon as the log takes it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from coordinator.logs.port import Entry, LogError
from coordinator.model import messages
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.serve import running
from tests.partition.world import keyed

WAITS = keyed("k", 1)
ROW = (
    b'{"id": "%s", "target_service_name": "Cart", "target_service_key": "k", "target_handler_name": "add",'
    b' "target_service_ty": "virtual_object", "created_at": "2026-11-21T03:50:45.201Z",'
    b' "modified_at": "2026-11-21T03:50:47.400Z", "status": "pending"}' % WAITS.encode()
)


async def row() -> AsyncIterator[bytes]:
    yield ROW


async def until_is(gateway: Gateway, status: str) -> None:
    async with asyncio.timeout(30):
        while (found := await gateway.invocation(WAITS)) is None or found.status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_an_end_that_the_log_does_not_take_is_told_again_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with running(DataDirectory(tmp_path), 1) as gateway:
            while gateway.unready():  # noqa: ASYNC110 - workers have no event of this loop
                await asyncio.sleep(0.01)
            log, refused = gateway._log, asyncio.Event()
            submit = log.submit

            def refuse(entries: Sequence[Entry]) -> "Future[list[int]]":
                if not any(isinstance(messages.decode_command(entry.value), messages.ImportEnd) for entry in entries):
                    return submit(entries)
                if told.is_set():
                    refused.set()
                raise LogError("nobody is there")

            told = asyncio.Event()
            with monkeypatch.context() as away:
                away.setattr(log, "submit", refuse)
                with pytest.raises(UnavailableError, match="nobody is there"):
                    await gateway.import_rows(row())
                told.set()
                await asyncio.wait_for(refused.wait(), 30)
                await until_is(gateway, "pending")
            await until_is(gateway, "ready")

    asyncio.run(scene())
