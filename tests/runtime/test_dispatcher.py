"""The life of a dispatcher: what is left of it when it is closed, as with each tenure of the coordinator on Kafka."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry
from coordinator.partition.outputs import Answer
from coordinator.runtime.dispatch.dispatcher import Dispatcher
from coordinator.runtime.requests.known import KnownRequests


class NoDeliveries:
    failure = None

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass


async def _send(entries: Sequence[Entry]) -> Sequence[Answer]:
    raise AssertionError(entries)


def test_nothing_is_left_of_one_that_was_closed(tmp_path: Path) -> None:
    asyncio.run(_three_tenures(tmp_path))


async def _three_tenures(folder: Path) -> None:
    log = EmbeddedLog.create_or_open(folder / "log.sqlite", partitions={})
    requests = KnownRequests()
    tenures = []
    for tenure in range(3):
        dispatcher = Dispatcher(log, requests, _send, lambda ends, on_run: NoDeliveries(), tenure=tenure)
        await dispatcher.start()
        dispatcher.close()
        tenures.append(weakref.ref(dispatcher))
        del dispatcher
    await asyncio.to_thread(log.close)
    await asyncio.sleep(0)  # let what was cancelled end
    gc.collect()
    assert [tenure() for tenure in tenures] == [None] * 3
