"""A whole system on Kafka is put through everything that happens to processes and brokers, while clients go on.

Workers, the coordinator and what serves HTTP are killed; workers join and leave; a worker and the coordinator are
stopped for longer than their sessions last, and go on; the broker is killed, and is away for a while. The order is
drawn from the seed. In the end nothing that was acknowledged is lost, nothing was ended twice, all sums balance, and
every store that any worker ever had is what the log says.
"""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from coordinator.logs.kafka import KafkaLog
from tests.simulation import settings
from tests.system import busy, oracle
from tests.system.cluster import PATIENCE_S, Cluster, Faults, cluster, until
from tests.system.evidence import Evidence
from tests.system.load import Load
from tests.system.log_oracle import Judge

CI: Final = {
    "worker killed": 2,
    "coordinator killed": 2,
    "http killed": 2,
    "rebalance": 4,
    "zombie worker": 1,
    "zombie coordinator": 1,
    "broker killed": 1,
    "outage": 1,
}
LONG: Final = CI | {
    "worker killed": 67,
    "coordinator killed": 67,
    "http killed": 66,
    "rebalance": 20,
    "zombie worker": 5,
    "zombie coordinator": 5,
    "broker killed": 5,
}
OUTAGE_S: Final = 60 if settings.LONG else 15
SLOWNESS_S: Final = 0.25 if settings.LONG else 0.1
"""A long run is to have many faults, and not so many invocations that everything takes longer and longer."""


@pytest.mark.timeout(4 * 3_600 if settings.LONG else 600)
def test_a_system_keeps_every_promise_whatever_happens_to_its_processes(
    own_brokers: None, tmp_path: Path, say: Callable[[str], None]
) -> None:
    rng = random.Random(settings.SEED)
    with cluster(tmp_path) as of:
        record = tmp_path / "ran"
        with busy.participant(of.fronts[0].url, record):
            load, faults = asyncio.run(_put_through(of, rng, say))
        promises = load.promises
        say(f"seed {settings.SEED}: {_text(faults.done)}; acknowledged: {_text(promises.acknowledged)}")
        say(f"{promises.unanswered} answers were none; until work went on, s: {json.dumps(faults.took_s)}")
        asyncio.run(until(lambda: not of.list("service=Busy&status=running"), says=of.said))
        with closing(KafkaLog(of.settings)) as log:
            found = Evidence(log, of.newest_stores())
            rows = {row["id"]: row for row in of.list()}
            batches = _batches(of)
            judge = Judge(found, rows, batches)
            ran = busy.noted(record)
            judge.judge(ran)
            oracle.keeps(of, load, found)
            assert not found.dead_letters()
        say(f"{len(rows)} invocations, {len(batches)} batches, {len(ran)} attempts were run")
        say(f"appended more than once: {_text(judge.log.repeated)}")
        assert [process.stop() for process in of.running] == [0] * 6
        _stores_equal_the_log(of)


async def _put_through(of: Cluster, rng: random.Random, say: Callable[[str], None]) -> tuple[Load, Faults]:
    programme = [fault for fault, times in (LONG if settings.LONG else CI).items() for _ in range(times)]
    rng.shuffle(programme)
    urls = [front.url for front in of.fronts]
    load = Load(urls, random.Random(rng.random()), served=busy.BUSY, slowness=SLOWNESS_S)
    faults = Faults(of, load, rng, outage_s=OUTAGE_S)
    clients = asyncio.create_task(load.run())
    try:
        await faults.until_work_goes_on()
        for fault in programme:
            going_on = asyncio.create_task(faults.do(fault))
            await asyncio.wait({going_on, clients}, return_when=asyncio.FIRST_COMPLETED)
            assert not clients.done(), clients.result()
            await going_on
            say(f"{fault}: {faults.took_s[fault][-1]} s")
        load.over.set()
        await clients
        await load.finish(within_s=PATIENCE_S)
    finally:
        clients.cancel()
        await faults.close()
    return load, faults


def _batches(of: Cluster) -> dict[str, dict[str, Any]]:
    """All batches, which both that serve HTTP show alike."""
    shown = [front.http.get("/batches").json() for front in of.fronts]
    assert shown[0] == shown[1]
    return {batch["id"]: batch for batch in shown[0]}


def _stores_equal_the_log(of: Cluster) -> None:
    """Also those of owners that were replaced: each up to where it has come."""
    for data in of.directories():
        found = of.cli("check", "--log", f"kafka://{of.bootstrap}", "--data", str(data), **of.workers[0].env)
        checked = [json.loads(line) for line in found.stdout.splitlines()]
        assert (found.returncode, [one["differences"] for one in checked]) == (0, [[]] * of.partitions), found.stdout


def _text(counted: dict[str, int]) -> str:
    return ", ".join(f"{number:,} × {what}" for what, number in sorted(counted.items()))
