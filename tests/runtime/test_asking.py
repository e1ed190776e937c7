"""Asking a coordinator that does not answer."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Stream
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.requests import asking
from coordinator.runtime.requests.known import KnownRequests
from tests.requests.world import submit


class Silent(KnownRequests):
    """One that shows nothing until it stops."""

    def stop(self) -> None:
        self._stop(None)


def test_those_who_wait_for_a_coordinator_that_is_away_keep_no_threads_from_others(tmp_path: Path) -> None:
    requests = Silent()

    async def wait(log: EmbeddedLog) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        waiting = [asyncio.create_task(asking.ask(log, requests, submit(f"r{number}"))) for number in range(3)]
        while log.bounds(Stream.REQUESTS, 0).end < len(waiting):  # noqa: ASYNC110 - the log has no event of this loop
            await asyncio.sleep(0.01)
        async with asyncio.timeout(asking.ANSWER_TIMEOUT_S / 2):
            await asyncio.to_thread(requests.stop)
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, UnavailableError)

    with closing(EmbeddedLog.create_or_open(tmp_path / "log", partitions=dict.fromkeys(Stream, 1))) as log:
        asyncio.run(wait(log))


def test_a_coordinator_that_does_not_answer_in_time_is_said_to_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_TIMEOUT_S", 0.05)
    with (
        closing(EmbeddedLog.create_or_open(tmp_path / "log", partitions=dict.fromkeys(Stream, 1))) as log,
        pytest.raises(UnavailableError, match="did not take the request"),
    ):
        asyncio.run(asking.ask(log, Silent(), submit("r")))
