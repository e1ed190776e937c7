"""Everything is restarted in order, one process after the other and the broker too, while a large batch is under way.

Whoever asks again on a 503 sees nothing of it but that some answers take longer, and the batch ends with exact sums.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx
import pytest

from coordinator.logs.kafka import KafkaLog
from coordinator.model import ids
from tests.simulation import settings
from tests.system.cluster import Cluster, cluster, until
from tests.system.evidence import Evidence
from tests.system.load import goes_on
from tests.system.log_oracle import Judge
from tests.system.rows import PARTITIONS, lines, row

ROWS: Final = 100_000 if settings.LONG else 10_000
LASTS_S: Final = 600
"""How long the batch is to take at its rate: longer than all the restarts. Then the rate is lifted."""
PAUSE_S: Final = 0.1


class Client:
    """One that sends to one partition, again and again, and asks again where it is told to."""

    def __init__(self, urls: list[str], partition: int) -> None:
        keys = (f"key{number}" for number in itertools.count())
        self.key = next(key for key in keys if ids.partition_of(_id_of(key), PARTITIONS) == partition)
        self.ids: set[str] = set()
        self.longest_s = 0.0
        """From the first try of a send to its answer, since somebody has set it to 0."""
        self.again = 0
        self._urls = itertools.cycle(urls)

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over."""
        async with httpx.AsyncClient(timeout=60) as http:
            while not over.is_set():
                began = time.monotonic()
                self.ids.add(await self._send(http, f"{self.key}-{len(self.ids)}"))
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                await asyncio.sleep(PAUSE_S)

    async def _send(self, http: httpx.AsyncClient, once: str) -> str:
        """Under one idempotency key, so that asking again never starts another one."""
        for url in self._urls:
            try:
                path = f"{url}/services/Client/{self.key}/call/send"
                response = await http.post(path, headers={"Idempotency-Key": once})
            except httpx.TransportError:
                response = httpx.Response(httpx.codes.SERVICE_UNAVAILABLE)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                assert response.status_code in (200, 202), response.text
                return str(response.json()["id"])
            self.again += 1
            await asyncio.sleep(PAUSE_S)
        raise AssertionError("there is always another place to ask")


def _id_of(key: str) -> str:
    return ids.invocation_id(ids.key_partition_key(key), 0)


@pytest.mark.timeout(1_800)
def test_a_rolling_restart_during_a_large_batch_is_felt_as_latency_only(
    own_brokers: None, tmp_path: Path, say: Callable[[str], None]
) -> None:
    with cluster(tmp_path) as of:
        statuses = ("suspended", "scheduled", "paused")
        rows = [row("Mass/run", statuses[n % 3], partition=n % PARTITIONS) for n in range(ROWS)]
        assert of.import_lines(lines(rows))["imported"] == ROWS
        clients = [Client([front.url for front in of.fronts], number) for number in range(PARTITIONS)]
        asyncio.run(_roll(of, clients, say))
        asyncio.run(until(of.all_ready, says=of.said))
        done = of.batch("large")
        assert [done[name] for name in ("state", "matched", "ended", "settled")] == ["completed", ROWS, ROWS, True]
        assert all(front.http.get("/batches/large").json() == done for front in of.fronts)
        found = {one["id"]: one for one in of.list()}
        assert {id for id, one in found.items() if one["batch"] == "large"} == {one["id"] for one in rows}
        assert found.keys() == {one["id"] for one in rows}.union(*(client.ids for client in clients))
        with closing(KafkaLog(of.settings)) as log:
            Judge(Evidence(log, of.newest_stores()), found, {"large": done}).judge(set())
        assert [process.stop() for process in of.running] == [0] * 6


async def _roll(of: Cluster, clients: list[Client], say: Callable[[str], None]) -> None:
    over = asyncio.Event()
    sending = [asyncio.create_task(client.run(over)) for client in clients]
    began = time.monotonic()
    before = await asyncio.to_thread(_submit, of)
    for process in (*of.workers, *of.coordinators, *of.fronts, None):
        for client in clients:
            client.longest_s = 0.0
        at = time.monotonic()
        if process is None:
            await asyncio.to_thread(of.broker.stop)
            await asyncio.to_thread(of.broker.start)
        else:
            assert await asyncio.to_thread(process.stop) == 0, process.said()
            process.start()
        await until(of.all_ready, says=of.said)
        await _each_is_answered(of, clients)
        batch = await asyncio.to_thread(of.batch, "large")
        goes_on(before, batch)
        before = batch
        assert batch["state"] == "running", "it was to be under way all the time"
        name = "broker" if process is None else process.directory.name
        longest = ", ".join(f"{client.longest_s:.1f}" for client in clients)
        say(f"{name}: {time.monotonic() - at:.1f} s; longest answers {longest} s; {batch['ended']:,} rows ended")
    restarted_s = time.monotonic() - began
    assert (await asyncio.to_thread(of, "PATCH", "/batches/large", json={"rate": 0})).status_code == 200
    await asyncio.to_thread(of.finished, "large")
    say(f"{restarted_s:.1f} s for the restarts, {time.monotonic() - began:.1f} s for the batch of {ROWS:,}")
    over.set()
    await asyncio.gather(*sending)
    say(
        f"{sum(len(client.ids) for client in clients):,} sends, asked again {sum(one.again for one in clients):,} times"
    )
    assert all(client.again > 0 for client in clients), "nobody was told to come again: nothing was restarted"


async def _each_is_answered(of: Cluster, clients: list[Client]) -> None:
    before = [len(client.ids) for client in clients]
    await until(lambda: all(len(one.ids) > had for one, had in zip(clients, before, strict=True)), says=of.said)


def _submit(of: Cluster) -> dict[str, object]:
    of.submit("kill", {"service": "Mass"}, request_id="large", rate=ROWS // LASTS_S)
    return of.until("large", lambda batch: batch["ended"] > 0)
