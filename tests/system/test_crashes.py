"""The server is killed at random moments under load, and started again on what is left.

Sometimes everything dies at once, sometimes the server alone (its workers must follow), sometimes one worker
(another must take its place while the server goes on). In the end nothing that was acknowledged is lost, nothing
was ended twice, every batch has ended, and the stores are what the log says.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import settings
from tests.system import evidence
from tests.system.load import BRIEF, Load
from tests.system.server import READY_S, Server, eventually, runs

CRASHES = 1_000 if settings.LONG else 20
WAYS = ("all", "all", "all", "server", "server", "worker", "worker", "starting")


@pytest.mark.timeout(6 * 3_600 if settings.LONG else 300)
def test_a_server_that_is_killed_again_and_again_keeps_every_promise(tmp_path: Path) -> None:
    rng = random.Random(settings.SEED)
    with Server(tmp_path) as server:
        load = asyncio.run(_crash(server, rng))
        assert load.promises.unanswered > 0
        _keeps(server, load)
        found = server.check()
        assert found.returncode == 0, found.stdout + found.stderr
        assert server.stop() == 0


# -- crashing ------------------------------------------------------------------------------------------------


async def _crash(server: Server, rng: random.Random) -> Load:
    ways = [WAYS[n % len(WAYS)] for n in range(CRASHES)]
    rng.shuffle(ways)
    server.start()
    load = Load(server.url, random.Random(rng.random()))
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


# -- what was promised ---------------------------------------------------------------------------------------


def _keeps(server: Server, load: Load) -> None:
    promises = load.promises
    rows = {row["id"]: row for row in server.list()}
    assert len(rows) == len(server.list()), "an invocation is listed twice"
    _nothing_is_lost(rows, load)
    _what_was_done_stays_done(rows, load)
    _purges_add_up(server, rows, load)
    batches = {batch["id"]: batch for batch in server("GET", "/batches").json()}
    assert promises.batches.keys() <= batches.keys()
    _nothing_ended_twice(rows, batches)
    for id, shown in promises.aborted.items():
        # What was answered is its end, be it that the abort came too late for it.
        assert [batches[id][name] for name in ("state", "matched", "ended")] == [
            shown[name] for name in ("state", "matched", "ended")
        ]
    _the_rest_ends_at_once(server, rows)


def _nothing_is_lost(rows: dict[str, Any], load: Load) -> None:
    promises = load.promises
    kept = {id for id, target in promises.started.items() if not target.startswith(BRIEF)}
    lost = (kept | promises.imported) - rows.keys()
    assert not lost, f"{len(lost)} were acknowledged and are lost: {sorted(lost)[:10]}"
    of_key = Counter(row["idempotency_key"] for row in rows.values() if row["idempotency_key"])
    assert set(of_key.values()) <= {1}, "an idempotency key has started two"
    assert all(rows[id]["idempotency_key"] == key for key, id in promises.by_key.items())


def _what_was_done_stays_done(rows: dict[str, Any], load: Load) -> None:
    promises = load.promises
    assert not promises.purged & rows.keys(), "purged ones are back"
    for done, outcome in ((promises.killed, "killed"), (promises.cancelled, "cancelled")):
        for id in done & rows.keys():
            assert (rows[id]["status"], rows[id]["outcome"]) == ("completed", outcome), rows[id]
    for parent, children, detached in promises.families:
        if rows[parent["id"]]["outcome"] == "killed":
            assert {rows[child["id"]]["status"] for child in children} == {"completed"}, parent
        assert rows[detached["id"]]["status"] == "scheduled", detached


def _purges_add_up(server: Server, rows: dict[str, Any], load: Load) -> None:
    """Whoever is gone was purged: so many as the batches and the single purges say, and of that service only."""
    created = sum(getattr(command, "service", "") == BRIEF for command in evidence.commands(server.data))
    there = sum(row["service"] == BRIEF for row in rows.values())
    by_batches = sum(batch["applied"] for batch in load.seen.values() if _purges(batch))
    single = created - there - by_batches
    promises = load.promises
    assert len(promises.purged) <= single <= len(promises.purged) + promises.maybe_purged


def _purges(batch: dict[str, Any]) -> bool:
    return batch["action"] == "purge" and not batch["dry_run"]


def _nothing_ended_twice(rows: dict[str, Any], batches: dict[str, Any]) -> None:
    """A batch counts each it has ended once: as many as rows name it."""
    named = Counter((row["batch"], row["outcome"]) for row in rows.values())
    for id, batch in batches.items():
        assert batch["state"] in ("completed", "aborted", "refused"), batch
        outcome = {"kill": "killed", "cancel": "cancelled"}.get(batch["action"])
        if outcome is None or batch["filter"].get("service") == BRIEF or "ids" in batch["filter"]:
            continue  # what it has ended may have been purged since
        ended = batch["ended"] + batch["propagated"] if not batch["dry_run"] else 0
        assert named[id, outcome] == ended, f"{named[id, outcome]} rows name {json.dumps(batch)}"
        if batch["state"] == "completed" and batch["guard"] is not None:
            assert batch["matched"] == batch["members"]
        if batch["state"] == "refused":
            assert batch["matched"] == 0


def _the_rest_ends_at_once(server: Server, rows: dict[str, Any]) -> None:
    """Everything that lives is ended by one more batch, which counts just what a scan has counted before."""
    alive = {id for id, row in rows.items() if row["status"] != "completed"}
    stored = evidence.stored(server.data, "SELECT id FROM invocation WHERE status <> 7")
    assert {id for (id,) in stored} == alive
    last = server.do("kill", {"all": True}, request_id="last", guard={"expect": len(alive)})
    assert (last["state"], last["matched"]) == ("completed", len(alive)), last
    assert last["ended"] + last["propagated"] == len(alive)
    named = {row["id"] for row in server.list() if row["batch"] == "last" and row["outcome"] == "killed"}
    assert named == alive
