"""What a full outbox does: the partition waits for the log, and that is said once."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import pytest
import structlog

from coordinator.logs.port import Entry, Log
from coordinator.model import limits
from coordinator.partition.outputs import Outgoing
from coordinator.partition.state import DELIVERIES
from coordinator.runtime.publisher import Publisher


class Slow:
    """A log that acknowledges an append when the next one comes."""

    def __init__(self) -> None:
        self._last: Future[list[int]] = Future()

    def submit(self, entries: Sequence[Entry]) -> "Future[list[int]]":
        self.acknowledge()
        self._last = Future()
        return self._last

    def acknowledge(self) -> None:
        if not self._last.done():
            self._last.set_result([])


def outgoing(count: int) -> list[Outgoing]:
    return [Outgoing(DELIVERIES, number, b"") for number in range(count)]


def test_a_full_outbox_is_waited_for_and_said_once_until_it_was_half_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_UNPUBLISHED_MAX", 10)
    log = Slow()
    publisher = Publisher(cast(Log, log), 3)

    def publish() -> list[tuple[str, int, int]]:
        """What is said of it."""
        with structlog.testing.capture_logs() as said:
            for _ in range(3):
                publisher.publish(outgoing(6))
                assert publisher.unpublished == 6, "it has waited for the one before"
            log.acknowledge()
            publisher.settle()
        return [(event["event"].split(":")[0], event["partition"], event["unpublished"]) for event in said]

    assert publish() == [("outbox full", 3, 12), ("outbox has room again", 3, 0)]
    assert publish() == [("outbox full", 3, 12), ("outbox has room again", 3, 0)], "another time is said again"
