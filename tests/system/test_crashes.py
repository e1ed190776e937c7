"""The server is killed at random moments under load, and started again on what is left.

Sometimes everything dies at once, sometimes the server alone (its workers must follow), sometimes one worker
(another must take its place while the server goes on). In the end nothing that was acknowledged is lost, nothing
was ended twice, every batch has ended, and the stores are what the log says.
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from tests.simulation import settings
from tests.system import evidence, oracle
from tests.system.load import Load
from tests.system.server import READY_S, Server, eventually, runs

CRASHES = 1_000 if settings.LONG else 20
WAYS = ("all", "all", "all", "server", "server", "worker", "worker", "starting")


@pytest.mark.timeout(6 * 3_600 if settings.LONG else 300)
def test_a_server_that_is_killed_again_and_again_keeps_every_promise(tmp_path: Path) -> None:
    rng = random.Random(settings.SEED)
    with Server(tmp_path) as server:
        load = asyncio.run(_crash(server, rng))
        assert load.promises.unanswered > 0
        with evidence.of_embedded(server.data) as found:
            oracle.keeps(server, load, found)
        checked = server.check()
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert server.stop() == 0


# -- crashing ------------------------------------------------------------------------------------------------


async def _crash(server: Server, rng: random.Random) -> Load:
    ways = [WAYS[n % len(WAYS)] for n in range(CRASHES)]
    rng.shuffle(ways)
    server.start()
    load = Load([server.url], random.Random(rng.random()))
    clients = asyncio.create_task(load.run())
    for way in ways:
        await asyncio.sleep(rng.uniform(0.05, 1.2))  # the moment is to be any
        await _kill(server, way, rng)
        assert not clients.done(), clients.result()
    load.over.set()
    await clients
    await load.finish()
    return load


async def _kill(server: Server, way: str, rng: random.Random) -> None:
    if way == "worker":
        before = await asyncio.to_thread(server.workers)
        victim = rng.choice(sorted(before))
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: _replaced(server, before), within_s=READY_S, says=server.said)
    elif way == "server":
        left = await asyncio.to_thread(server.kill_server_only)
        server.start(until_ready=False)  # at once, as a supervisor would
        await asyncio.to_thread(eventually, lambda: not any(runs(pid) for pid in left), says=lambda: f"{left} run on")
    elif way == "starting":
        await asyncio.to_thread(server.kill_all)
        server.start(until_ready=False)
        await asyncio.sleep(rng.uniform(0.0, 1.5))
        await asyncio.to_thread(server.kill_all)
        server.start(until_ready=False)
    else:
        await asyncio.to_thread(server.kill_all)
        server.start(until_ready=False)
    await asyncio.to_thread(server.wait_ready)


def _replaced(server: Server, before: set[int]) -> bool:
    """As many workers as before, and not the same."""
    now = server.workers()
    return len(now) == len(before) and now != before and server.is_ready()
