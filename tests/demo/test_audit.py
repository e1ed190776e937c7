"""The audit over a small system: it agrees with one that did right, and finds each way of doing wrong.

What was done wrong is done to the files afterwards, because the system cannot be made to.
"""

import asyncio
import contextlib
import copy
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from coordinator.client import Progress
from coordinator.demo import multiply, participant
from coordinator.demo.evidence import Order, look_before
from coordinator.demo.judge import Swept, judge
from coordinator.demo.report import Line
from coordinator.demo.traffic import GREETER, Sent
from coordinator.model import messages
from coordinator.model.filters import Filter
from coordinator.model.ids import partition_of
from coordinator.model.messages import Start
from coordinator.participant import serve
from coordinator.requests.view import BatchView
from coordinator.runtime.dispatch.in_process import InProcess
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.serve import running

PARTITIONS = 2
ROWS = 1_500
AGE_US = 300_000
STATUSES = ("scheduled", "suspended")
PAUSE_MS = 6_000
"""Long enough to be suspended when the command comes, and short enough to come due while someone waits for it."""


def stores(data: DataDirectory) -> list[Path]:
    return [data.store(number) for number in range(PARTITIONS)]


def now_us() -> int:
    return time.time_ns() // 1_000


async def ready(gateway: Gateway) -> None:
    end = time.monotonic() + 30
    while gateway.unready():
        assert time.monotonic() < end, gateway.unready()
        await asyncio.sleep(0.05)


async def rows() -> AsyncIterator[bytes]:
    for piece, _ in multiply.lines(multiply.multiplied(multiply.bundled(), count=ROWS, seed=3, now_us=now_us())):
        for line in piece.splitlines():
            yield line


async def send(gateway: Gateway, delay_ms: int = 0, *, pause_ms: int = 0) -> Sent:
    began = now_us()
    input = b'{"pause_ms":%d}' % pause_ms
    answer = await gateway.start_invocation("Greeter", "greet", input=input, delay_us=delay_ms * 1_000)
    assert answer.id is not None
    return Sent(GREETER, delay_ms, began, began, now_us(), answer.id)


async def sweep(data: DataDirectory) -> Swept:
    """The demo in small: rows, live commands old and young, the kill, and live commands after it."""
    async with running(data, PARTITIONS) as gateway, participating(gateway):
        await ready(gateway)
        report = await gateway.import_rows(rows())
        assert report.imported >= ROWS
        sent = [await send(gateway, 3_600_000) for _ in range(10)]
        sent += [await send(gateway, pause_ms=PAUSE_MS) for _ in range(10)]
        asleep_until = now_us() + PAUSE_MS * 1_000
        sent += [await send(gateway) for _ in range(5)]
        await suspended(gateway, sent[10:20])
        await asyncio.sleep(2 * AGE_US / 1e6)
        sent += [await send(gateway, 3_600_000) for _ in range(5)]
        before = look_before(stores(data), "Greeter")
        meanwhile = asyncio.create_task(send(gateway, 3_600_000))
        await asyncio.sleep(0)  # so that it is under way when the command is given
        submitted_at = now_us()
        filter = Filter(service="Greeter", status=STATUSES, created_before=submitted_at - AGE_US)
        await gateway.batches.submit(messages.Submit(request="r", action="kill", filter=filter))
        answered_at = now_us()
        async for seen in gateway.batches.watch("r"):
            last = seen
        sent.append(await meanwhile)
        sent += [await send(gateway, 3_600_000) for _ in range(5)]
        await asyncio.sleep((asleep_until - now_us()) / 1e6)
        sent += [await send(gateway) for _ in range(5)]
        await gateway.ending(sent[-1].id, timeout_s=30)
        await rested(gateway)
        order = Order("r", "Greeter", STATUSES, AGE_US, submitted_at, answered_at)
        return Swept(order, progress(last), before, (sent[0].planned_at, submitted_at), sent)


@contextlib.asynccontextmanager
async def participating(gateway: Gateway) -> AsyncIterator[None]:
    """The demo's participant, in this process."""
    services = (participant.greeter, participant.cart, participant.payments)
    serving = asyncio.create_task(serve(*services, transport=InProcess(gateway), deployment=participant.DEPLOYMENT))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def suspended(gateway: Gateway, sent: list[Sent]) -> None:
    """Wait until the handlers of these sleep."""
    end = time.monotonic() + 30
    while {view.status for one in sent if (view := await gateway.invocation(one.id))} != {"suspended"}:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def rested(gateway: Gateway) -> None:
    end = time.monotonic() + 30
    while any(one.lag or one.works for one in await gateway.partition_views()):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def progress(view: BatchView) -> Progress:
    return Progress(id=view.id, state=view.state, settled=True, matched=view.matched, ended=view.ended)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataDirectory, Swept]:
    data = DataDirectory(tmp_path_factory.mktemp("audited") / "data")
    return data, asyncio.run(sweep(data))


class Case:
    """A copy of the files that something can be done to."""

    def __init__(self, path: Path, swept: Swept) -> None:
        self.data = DataDirectory(path)
        self.swept = swept
        self.scope = self._scope()

    def _scope(self) -> list[str]:
        return [id for (id,) in self._all("SELECT id FROM invocation WHERE outcome = 3 ORDER BY id")]

    def _all(self, sql: str) -> list[tuple[str]]:
        found = []
        for number in range(PARTITIONS):
            connection = apsw.Connection(str(self.data.store(number)))
            found += connection.execute(sql).fetchall()
            connection.close()
        return found

    def alter(self, id: str, assignments: str) -> None:
        connection = apsw.Connection(str(self.data.store(partition_of(id, PARTITIONS))))
        connection.execute(f"UPDATE invocation SET {assignments} WHERE id = ?", (id,))
        assert connection.changes() == 1
        connection.close()

    def append(self, table: str, value: bytes) -> None:
        connection = apsw.Connection(str(self.data.log))
        sql = f'INSERT INTO "{table}" SELECT ifnull(max(position), -1) + 1, ?, ? FROM "{table}"'
        connection.execute(sql, (now_us(), value))
        connection.close()

    def clear(self, table: str) -> None:
        connection = apsw.Connection(str(self.data.log))
        connection.execute(f'DELETE FROM "{table}"')
        connection.close()

    def lines(self) -> dict[str, Line]:
        with self.data.read_log() as log:
            return {line.name: line for line in judge(log, stores(self.data), self.swept)}

    def failed(self) -> set[str]:
        return {name for name, line in self.lines().items() if line.holds is False}


@pytest.fixture
def case(swept: tuple[DataDirectory, Swept], tmp_path: Path) -> Case:
    data, seen = swept
    shutil.copytree(data.path, tmp_path / "data")
    # What the scan found is carried on to the command by the audit, so that each needs its own.
    return Case(tmp_path / "data", replace(seen, before=copy.deepcopy(seen.before)))


def test_it_agrees_with_a_system_that_did_right(case: Case) -> None:
    lines = case.lines()
    assert case.failed() == set()
    matched = len(case.scope)
    assert matched > 500
    assert lines["matched"].value == lines["ended"].value == f"{matched:,}"
    parts = [int(lines[f"  {status} before"].value.replace(",", "")) for status in STATUSES]
    assert sum(parts) == matched
    assert "20 of them live commands" in lines["acknowledged before, alive"].note
    assert lines["in scope, started after"].note.startswith("of 10 that came due since, ")
    assert lines["in scope, started after"].note.endswith("; 5 others were started")
    assert lines["not in scope, touched"].note.startswith("of the same service 10 were sent after")
    assert int(lines["log entries for the batch"].value) < 60


@pytest.mark.parametrize(
    "assignments", ["status = 5, outcome = NULL", "outcome = 2", "id = 'gone', outcome = 2, batch = NULL"]
)
def test_it_finds_one_that_is_alive(case: Case, assignments: str) -> None:
    case.alter(case.scope[0], assignments)
    assert case.failed() == {"acknowledged before, alive"}


@pytest.mark.parametrize(("number", "attempt"), [(0, 1), (10, 2)])
def test_it_finds_one_that_was_started_afterwards(case: Case, number: int, attempt: int) -> None:
    deliver(case, case.swept.sent[number].id, attempt)
    assert case.failed() == {"in scope, started after"}


def test_a_delivery_of_before_that_is_repeated_is_none(case: Case) -> None:
    deliver(case, case.swept.sent[10].id, 1)
    assert case.failed() == set()


def test_that_nothing_was_started_shows_nothing_when_nothing_is(case: Case) -> None:
    for number in range(PARTITIONS):
        case.clear(f"deliveries/{number}")
    assert case.failed() == {"in scope, started after"}


def deliver(case: Case, id: str, attempt: int) -> None:
    start = Start(id=id, attempt=attempt, service="Greeter", handler="greet")
    case.append(f"deliveries/{partition_of(id, PARTITIONS)}", messages.encode(start))


@pytest.mark.parametrize("which", ["young", "after", "other"])
def test_it_finds_one_that_should_have_been_left_alone(case: Case, which: str) -> None:
    sent = case.swept.sent
    id = {"young": sent[27].id, "after": sent[-1].id, "other": sent[22].id}[which]
    case.alter(id, "status = 7, outcome = 3")
    assert case.failed() == {"not in scope, touched"}


def test_it_finds_a_count_that_is_off_by_one(case: Case) -> None:
    told = case.swept.progress
    told = Progress(id="r", state=told.state, settled=True, matched=told.matched + 1, ended=told.ended)
    case.swept = replace(case.swept, progress=told)
    assert case.failed() == {"matched"}


def test_it_finds_an_acknowledged_command_that_is_lost(case: Case) -> None:
    lost = replace_id(case.swept.sent[0], "inv_1" + "0" * 33)
    case.swept = replace(case.swept, sent=[lost, *case.swept.sent[1:]])
    assert case.failed() == {"acknowledged before, alive"}


def test_it_finds_a_command_that_was_refused(case: Case) -> None:
    refused = Sent(GREETER, 0, 1, 1, 2, "", "503")
    case.swept = replace(case.swept, sent=[*case.swept.sent, refused])
    assert case.failed() == {"live commands refused"}


def test_it_finds_a_filter_that_is_not_the_one_that_was_given(case: Case) -> None:
    case.swept = replace(case.swept, order=replace(case.swept.order, age_us=2 * AGE_US))
    assert "matched" in case.failed()


def replace_id(sent: Sent, id: str) -> Sent:
    return Sent(sent.target, sent.delay_ms, sent.planned_at, sent.sent_at, sent.answered_at, id)
