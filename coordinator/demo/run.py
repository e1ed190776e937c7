"""The story, from an empty folder to the table of what held.

Start a server and a participant, import, let live commands flow, submit one kill with a filter, audit. Everything is
measured at the running system as a user has it: processes, HTTP, files, topics. The folder, the processes and the
topics are gone when this returns or raises, however that comes about.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from coordinator.cli.watching import fraction
from coordinator.client import Batch, Client, Filter, Progress, kill
from coordinator.demo import multiply
from coordinator.demo.evidence import Order, look_before
from coordinator.demo.judge import Swept, judge, replayed
from coordinator.demo.processes import Traffic, ended_by_signals, live_traffic, participant
from coordinator.demo.report import Bar, Line, Teller, teller
from coordinator.demo.systems import System, embedded, on_kafka
from coordinator.demo.traffic import PER_S
from coordinator.logs.kafka import KafkaSettings
from coordinator.model.errors import CoordinatorError

PARTITIONS: Final = 4
REQUEST: Final = "demo-kill"
SERVICE: Final = "Greeter"
STATUSES: Final = ("scheduled", "suspended")
AGE_S: Final = 5
"""Young enough that live commands are in scope, too, and old enough that younger ones must be left alone."""
_WARM_S: Final = 1.5
_BASELINE_S: Final = 8.0
_AFTER_S: Final = 1.5
"""For so long live commands go on after the batch."""
_REST_S: Final = 120.0
"""For the participant to do what came due meanwhile, on a machine with a lot else to do."""
_REPLAY_SHARE: Final = 0.8
"""A replay's time against that of the import, with some to spare."""
_REPLAY_MAX_S: Final = 60.0
"""A replay that is likely to take longer is left out."""


def demo(*, seed: int, invocations: int, kafka: KafkaSettings | None = None) -> bool:
    """Run it all and say what was found; whether everything held. Without `kafka` the log is the embedded one.

    Raises CoordinatorError when the system cannot even be brought to do it, LogError when Kafka cannot.
    """
    tell, began = teller(), time.monotonic()
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="coordinator-demo-") as name:
        folder = Path(name)
        tell.stage("A server and a participant")
        with embedded(folder, PARTITIONS) if kafka is None else on_kafka(folder, PARTITIONS, kafka) as system:
            tell.say(
                f"{system.story} Beside it a process has come that runs handlers: of "
                f"{SERVICE}, CartObject and PaymentService, in a new deployment."
            )
            with participant(folder, system.url):
                import_s = asyncio.run(_import(tell, system.url, seed, invocations))
                swept = asyncio.run(_sweep(tell, folder, system, seed))
            lines = _audit(tell, system, swept, check=import_s * _REPLAY_SHARE < _REPLAY_MAX_S)
    tell.stage("The result")
    tell.table(lines)
    failed = [line.name for line in lines if line.holds is False]
    text = f"It does not hold: {', '.join(failed)}." if failed else "All of it holds."
    tell.conclude(f"{text} It took {_elapsed(began):.0f} s.", good=not failed)
    return not failed


async def _import(tell: Teller, url: str, seed: int, invocations: int) -> float:
    """How long it took, in seconds."""
    tell.stage("Real data")
    originals = multiply.bundled()
    tell.say(
        f"{len(originals):,} invocations of a real Restate 1.7.12, multiplied to {invocations:,}: copies with ids "
        f"and keys of their own, spread over the last two hours (seed {seed}). They go in through POST /import, each "
        "a record on a partition's log. Those that Restate had started are pinned to its deployment and wait for it."
    )
    rows = multiply.multiplied(originals, count=invocations, seed=seed, now_us=_now_us())
    bar = tell.bar("importing")
    began, number = time.monotonic(), 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal number
        for piece, more in multiply.lines(rows):
            yield piece
            number += more
            news = f"{number:,} invocations, {number / _elapsed(began):,.0f}/s"
            bar.show(min(1.0, number / invocations), news)

    try:
        async with Client(url) as client:
            report = await client.import_rows(pieces())
    finally:
        bar.close()
    if report.imported != number or number < invocations:
        raise CoordinatorError(f"of {number:,} invocations {report.imported:,} were imported: {report.errors[:3]}")
    return _elapsed(began)


async def _sweep(tell: Teller, folder: Path, system: System, seed: int) -> Swept:
    """Live commands, and the kill in the midst of them."""
    tell.stage("Live commands")
    tell.say(
        f"Another process now sends {PER_S} commands a second, on and on. Most start invocations of {SERVICE}, at "
        "once, within seconds or in an hour, and what the participant has started sleeps some seconds before it goes "
        f"on. First they have the server to themselves, for {_WARM_S + _BASELINE_S:.0f} s."
    )
    with live_traffic(folder, system.url, seed) as traffic:
        await asyncio.sleep(_WARM_S)
        warm_at = _now_us()
        await asyncio.sleep(_BASELINE_S)
        scanned_at = _now_us()
        before = look_before(await system.stores(), SERVICE)
        async with Client(system.url) as client:
            order, batch = await _kill(tell, client)
            await asyncio.sleep(_AFTER_S)
            await _come_to_rest(client, traffic)
            progress = await batch.refresh()
        return Swept(order, progress, before, (warm_at, scanned_at), traffic.sent())


async def _kill(tell: Teller, client: Client) -> tuple[Order, Batch]:
    tell.stage("One command")
    tell.say(
        f"POST /batches: kill what is {' or '.join(STATUSES)} of {SERVICE} and older than {AGE_S} s. One record on "
        "each partition's log; from its position on it is in force for all that came before, and ticks work it off."
    )
    filter = Filter(service=SERVICE, status=STATUSES, created_before=f"{AGE_S}s")
    request = kill(filter, request_id=REQUEST, reason="coordinator demo")
    bar = tell.bar("killing")
    try:
        submitted_at = _now_us()
        batch = await client.submit(request)
        answered_at = _now_us()
        _show(bar, batch.latest)
        async for progress in batch.progress():
            _show(bar, progress)
    finally:
        bar.close()
    return Order(REQUEST, SERVICE, STATUSES, AGE_S * 1_000_000, submitted_at, answered_at), batch


def _show(bar: Bar, progress: Progress) -> None:
    bar.show(fraction(progress), f"{progress.ended:,} ended, {progress.rate_per_s:,.0f}/s")


async def _come_to_rest(client: Client, traffic: Traffic) -> None:
    """End the live commands and wait until all that is on the log is applied."""
    await asyncio.to_thread(traffic.stop)
    end = time.monotonic() + _REST_S
    while any(one.lag or one.works for one in await client.partitions()):
        if time.monotonic() > end:
            raise CoordinatorError(f"the partitions have not come to rest within {_REST_S:.0f} s")
        await asyncio.sleep(0.05)


def _audit(tell: Teller, system: System, swept: Swept, *, check: bool) -> list[Line]:
    tell.stage("The audit")
    tell.say(
        "The live commands have ended. Now count by hand: go through every record of the log and every row of the "
        "stores, and believe no counter of the system."
    )
    with system.log() as log:
        lines = judge(log, asyncio.run(system.stores()), swept)
        if check:
            tell.say("Then replay the whole log into fresh stores, as `coordinator check` does.")
            lines.append(replayed(log, list(system.directories.values())))
        else:
            tell.say("A replay of the whole log would take long; on data of your own: coordinator check --data DIR")
    return lines


def _elapsed(since: float) -> float:
    return time.monotonic() - since


def _now_us() -> int:
    return time.time_ns() // 1_000
