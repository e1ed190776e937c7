"""What a system under faults has to keep: nothing acknowledged is lost, nothing was ended twice, sums balance."""

import json
from collections import Counter
from typing import Any

from tests.system.evidence import Evidence
from tests.system.load import BRIEF, Load
from tests.system.server import Server

OUTCOMES = {"kill": "killed", "cancel": "cancelled"}


def keeps(server: Server, load: Load, found: Evidence) -> None:
    """Hold what the system shows, now that it has come to rest, against what was promised, and end the rest."""
    promises = load.promises
    rows = {row["id"]: row for row in server.list()}
    assert len(rows) == len(server.list()), "an invocation is listed twice"
    _nothing_is_lost(rows, load)
    _what_was_done_stays_done(rows, load)
    _purges_add_up(found, rows, load)
    batches = {batch["id"]: batch for batch in server("GET", "/batches").json()}
    assert promises.batches.keys() <= batches.keys()
    _nothing_ended_twice(rows, batches)
    for id, shown in promises.aborted.items():
        # What was answered is its end, be it that the abort came too late for it.
        assert [batches[id][name] for name in ("state", "matched", "ended")] == [
            shown[name] for name in ("state", "matched", "ended")
        ]
    for id, revision in promises.revisions.items():
        assert batches[id]["revision"] >= revision, batches[id]
    _the_rest_ends_at_once(server, rows, found)


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


def _purges_add_up(found: Evidence, rows: dict[str, Any], load: Load) -> None:
    """Whoever is gone was purged: so many as the batches and the single purges say, and of that service only."""
    created = len({command.id for _, _, command in found.commands() if getattr(command, "service", "") == BRIEF})
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
        outcome = OUTCOMES.get(batch["action"])
        if outcome is None or may_be_purged(batch):
            continue
        ended = batch["ended"] + batch["propagated"] if not batch["dry_run"] else 0
        assert named[id, outcome] == ended, f"{named[id, outcome]} rows name {json.dumps(batch)}"
        if batch["state"] == "completed" and batch["guard"] is not None:
            assert batch["matched"] == batch["members"]
        if batch["state"] == "refused":
            assert batch["matched"] == 0


def may_be_purged(batch: dict[str, Any]) -> bool:
    """Whether what the batch has ended may be gone since."""
    return batch["filter"].get("service") == BRIEF or "ids" in batch["filter"]


def _the_rest_ends_at_once(server: Server, rows: dict[str, Any], found: Evidence) -> None:
    """Everything that lives is ended by one more batch, which counts just what a scan has counted before."""
    alive = {id for id, row in rows.items() if row["status"] != "completed"}
    stored = found.stored("SELECT id FROM invocation WHERE status <> 7")
    assert {id for (id,) in stored} == alive
    last = server.do("kill", {"all": True}, request_id="last", guard={"expect": len(alive)})
    assert (last["state"], last["matched"]) == ("completed", len(alive)), last
    assert last["ended"] + last["propagated"] == len(alive)
    named = {row["id"] for row in server.list() if row["batch"] == "last" and row["outcome"] == "killed"}
    assert named == alive
