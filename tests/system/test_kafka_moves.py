"""A partition moves to a machine without its store, and back to one whose store is old: never is half of it shown."""

import contextlib
import re
import time
from pathlib import Path

import httpx
import msgspec

from coordinator.model.filters import Filter
from coordinator.runtime.group import questions
from coordinator.runtime.group.questions import AskPage
from tests.system.kafka import Process, System
from tests.system.rows import lines, row
from tests.system.server import eventually

PATIENCE_S = 120
ROWS = 2_000
"""So many that applying them takes a while."""


def first_answer(process: Process, service: str) -> set[str]:
    """Which invocations the worker of partition 0 shows when it first shows any, to one that knows of none."""
    question = msgspec.msgpack.encode(AskPage(-1, Filter(service=service), None, 100_000))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            response = process.http.post("/internal/partitions/0", content=question)
            if response.status_code == questions.ANSWERED:
                return {one.invocation.id for one in questions.ANSWERS[AskPage].decode(response.content)}
            assert response.status_code in (questions.NOT_OWNED, questions.UNAVAILABLE), response.text
    raise AssertionError(f"it does not answer; {process.said()}")


def began_at(process: Process) -> int:
    """The position from which it went on when it last took over."""
    found = re.findall(r'"position": (-?\d+), "end": \d+, "event": "partition taken over"', process.said())
    return int(found[-1])


def test_by_the_log_alone_and_back_to_a_store_that_is_old(kafka: str, tmp_path: Path) -> None:
    with System(tmp_path / "system", kafka, partitions=1) as of:
        old, new = of.process_with("partitions"), of.process_with("partitions")
        old.start()
        of.front(of.process_with("requests,http").start())
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        of.import_lines(lines(row("Moves/on") for _ in range(ROWS)))
        done = of.do("kill", {"service": "Moves"})
        assert done["ended"] == ROWS
        before = of.list("service=Moves")

        old.kill()
        new.start()
        assert len(first_answer(new, "Moves")) == ROWS
        assert began_at(new) == -1
        assert "restored from a snapshot" not in new.said()
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        assert of.list("service=Moves") == before

        of.import_lines(lines(row("Moves/late") for _ in range(ROWS)))
        assert new.stop() == 0
        old.start()
        assert len(first_answer(old, "Moves")) == 2 * ROWS
        assert began_at(old) >= ROWS
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        assert [one for one in of.list("service=Moves") if one["status"] == "completed"] == before
        assert of.do("kill", {"service": "Moves"})["ended"] == ROWS
        assert old.stop() == 0
        assert [of.check_of(process).returncode for process in (old, new)] == [0, 0]
