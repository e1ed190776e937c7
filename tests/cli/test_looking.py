"""list, describe, partitions and the batches: JSON for programs, tables for people."""

import json
import threading
from typing import Any

import pytest

from coordinator.model.ids import derived_id
from tests.cli.conftest import Cli
from tests.client.fake_server import FakeServer, Say, batch

ONE, OTHER = derived_id("one", 0, None), derived_id("other", 0, None)
SHARE = {"partition": 0, "state": "running", "position": 7, "matched": 3, "ended": 2, "cursor_fraction": 0.5}


def invocation(id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "target": "Greeter/greet",
        "service": "Greeter",
        "handler": "greet",
        "status": "running",
        "created_at": "2026-11-21T09:30:00.000000Z",
        "modified_at": "2026-11-21T09:30:00.000000Z",
        "retry": 0,
    } | fields


# -- invocations ---------------------------------------------------------------------------------------------


def test_a_listing_is_one_array_over_all_pages(cli: Cli, fake: FakeServer) -> None:
    next_page = {"Link": '</invocations?cursor=C>; rel="next"'}
    fake.on("GET", "/invocations", Say(200, [invocation(ONE)], next_page), Say(200, [invocation(OTHER, key="k")]))
    done = cli("invocations", "list", "Greeter", "--status", "running")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert (first["id"], second["id"], first["key"], second["key"]) == (ONE, OTHER, None, "k")
    assert list(first)[:8] == ["id", "target", "service", "key", "handler", "status", "outcome", "created_at"]
    assert fake.asked[0].query == [("target", "Greeter"), ("status", "running"), ("limit", "1000")]


def test_a_listing_of_nothing_is_an_array_too(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/invocations", Say(200, []))
    assert cli("inv", "ls").stdout == "[]\n"
    assert cli("inv", "ls", "-o", "jsonl").stdout == ""


def test_jsonl_is_one_object_a_line(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/invocations", Say(200, [invocation(ONE), invocation(OTHER)]))
    lines = cli("invocation", "list", "--limit", "2", "--output", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [ONE, OTHER]


def test_on_a_terminal_a_listing_is_a_table_with_one_head(cli: Cli, fake: FakeServer) -> None:
    odd = invocation(OTHER, target="[red]Shop/[/]", status="completed", outcome="killed", retry=3)
    next_page = {"Link": '</invocations?cursor=C>; rel="next"'}
    fake.on("GET", "/invocations", Say(200, [invocation(ONE)], next_page), Say(200, [odd]))
    terminal = cli.on_a_terminal("invocations", "list")
    assert terminal.close() == 0
    head, one, other, found = (line.rstrip() for line in terminal.shown.splitlines())
    assert head.split() == ["ID", "TARGET", "STATUS", "AGE", "RETRY"]
    assert one.split()[:3] == [ONE, "Greeter/greet", "running"]
    assert other.split()[:3] == [OTHER, "[red]Shop/[/]", "killed"]
    assert other.split()[-1] == "3"
    assert head.index("STATUS") == one.index("running") == other.index("killed")
    assert found == "2 invocations"


def test_a_reader_that_goes_away_is_no_error_to_talk_about(cli: Cli, fake: FakeServer) -> None:
    many = [invocation(derived_id("many", number, None)) for number in range(1000)]
    fake.on("GET", "/invocations", Say(200, many))
    done = cli.script("coordinator invocations list | head -c 10; echo")
    assert done.stdout.strip() == '[{"id":"in'
    assert done.stderr == ""


def test_one_invocation_is_described(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", f"/invocations/{ONE}", Say(200, invocation(ONE, last_failure="[500] no")))
    assert json.loads(cli("invocations", "describe", ONE).stdout)["last_failure"] == "[500] no"
    terminal = cli.on_a_terminal("invocations", "describe", ONE)
    assert terminal.close() == 0
    shown = {name: text.strip() for name, text in (line.split("  ", 1) for line in terminal.shown.splitlines())}
    assert (shown["id"], shown["last failure"], shown["retry"]) == (ONE, "[500] no", "0")
    assert "outcome" not in shown


def test_an_output_is_printed_as_it_is(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", f"/invocations/{ONE}/output", Say(200, {"n": [1]}), Say(204), Say(424, {"detail": "it was killed"}))
    assert cli("invocations", "output", ONE).stdout == '{"n":[1]}\n'
    assert cli("invocations", "output", ONE, "--timeout", "1m").stdout == ""
    failed = cli("invocations", "output", ONE)
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", "Error: it was killed\n")
    assert cli("invocations", "output", ONE, "--timeout", "soon").returncode == 2


def test_what_was_restarted_is_shown_by_a_look_at_it_and_not_in_a_list(cli: Cli, fake: FakeServer) -> None:
    one = invocation(ONE, restarted_from="inv_old", restarted_as=None)
    fake.on("GET", f"/invocations/{ONE}", Say(200, one))
    fake.on("GET", "/invocations", Say(200, [one]))
    assert json.loads(cli("invocations", "describe", ONE).stdout)["restarted_from"] == "inv_old"
    assert "restarted_from" not in json.loads(cli("invocations", "list").stdout)[0]


def test_a_start_prints_its_id(cli: Cli, fake: FakeServer) -> None:
    fake.on("POST", "/services/Greeter/greet/send", Say(202, {"id": ONE, "status": "ready"}))
    done = cli(
        "invocations", "start", "Greeter/greet", "--input", '{"n": 1}', "--delay", "1h", "--idempotency-key", "k"
    )
    assert json.loads(done.stdout) == {"id": ONE, "status": "ready", "done": False}
    [asked] = fake.asked
    assert (asked.json, asked.query, asked.headers["idempotency-key"]) == ({"n": 1}, [("delay", "1h")], "k")


@pytest.mark.parametrize(
    ("args", "says"),
    [(["Greeter/greet", "--input", "Ada"], "--input is not JSON"), (["Greeter"], "names no handler")],
)
def test_a_start_that_cannot_be_is_bad_usage(cli: Cli, fake: FakeServer, args: list[str], says: str) -> None:
    done = cli("invocations", "start", *args)
    assert done.returncode == 2
    assert says in done.stderr
    assert fake.asked == []


# -- batches -------------------------------------------------------------------------------------------------


def test_batches_are_listed(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches", Say(200, [batch(), batch("completed", id="b2", dry_run=True, matched=1234)]))
    assert [one["id"] for one in json.loads(cli("batches", "list").stdout)] == ["b1", "b2"]
    table = cli("batch", "ls", "-o", "table").stdout.splitlines()
    assert table[0].split() == ["ID", "ACTION", "STATE", "AGE", "COUNTS"]
    assert table[2].split() == ["b2", "kill?", "completed", "1,234", "matched"]


def test_one_batch_is_shown_with_its_share_on_each_partition(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch(matched=3, ended=2, reason="bad [deploy]", partitions=[SHARE])))
    assert json.loads(cli("batches", "get", "b1").stdout)["partitions"][0]["position"] == 7
    shown = cli("batches", "get", "b1", "-o", "table").stdout
    assert 'filter: {"service":"Greeter"}' in shown
    assert "reason: bad [deploy]" in shown
    assert shown.splitlines()[-1].split() == ["0", "running", "7", "50%", "3", "matched,", "2", "ended"]


def test_what_was_aborted_is_not_shown_as_done(cli: Cli, fake: FakeServer) -> None:
    share = {**SHARE, "state": "aborted", "cursor_fraction": 1.0}
    fake.on("GET", "/batches/b1", Say(200, batch("aborted", partitions=[share])))
    assert "%" not in cli("batches", "get", "b1", "-o", "table").stdout


def test_a_batch_that_waits_for_its_grace_says_so(cli: Cli, fake: FakeServer) -> None:
    waiting = batch("completed", grace_s=30.0, awaits_grace=True, retry_of="b0", matched=1, signalled=1)
    fake.on("GET", "/batches/b1", Say(200, waiting))
    shown = cli("batches", "get", "b1", "-o", "table").stdout
    assert "grace: 30s\nretry of: b0\n" in shown
    assert "1 asked to end and still at it; what has not ended after 30s is killed" in " ".join(shown.split())


def test_watching_ends_with_the_batch_and_its_exit_code(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch()))
    fake.on("GET", "/batches/b1/events", Say(events=[batch(), batch("completed-with-failures", failed=2)]))
    done = cli("batches", "watch", "b1")
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["running", "completed-with-failures"]
    assert (done.returncode, done.stderr) == (1, "Error: the batch is completed-with-failures; 2 failed\n")


def test_an_interrupted_watch_leaves_the_batch_alone(cli: Cli, fake: FakeServer) -> None:
    held = threading.Event()
    fake.on("GET", "/batches/b1", Say(200, batch()))
    fake.on("GET", "/batches/b1/events", Say(events=[batch("paused", matched=3)], hold=held))
    terminal = cli.on_a_terminal("batches", "watch", "b1")
    terminal.read_until("kill, paused")
    terminal.interrupt()
    code = terminal.close()
    held.set()
    assert code == 130
    assert "Watch it with: coordinator batches watch b1" in terminal.shown


@pytest.mark.parametrize("control", ["pause", "resume", "abort"])
def test_a_batch_is_controlled(cli: Cli, fake: FakeServer, control: str) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch()))
    fake.on("POST", f"/batches/b1/{control}", Say(200, batch("paused")))
    assert json.loads(cli("batches", control, "b1").stdout)["state"] == "paused"


def test_the_rate_of_a_batch_is_changed(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch()))
    fake.on("PATCH", "/batches/b1", Say(200, batch(rate=1500, matched=2)))
    terminal = cli.on_a_terminal("batches", "rate", "b1", "1500")
    assert (terminal.close(), terminal.shown) == (0, "b1 is running, at most 1,500/s: 2 matched\n")
    assert fake.asked_for("PATCH", "/batches/b1")[0].json == {"rate": 1500}


def test_a_retry_is_followed_to_its_end(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch("completed-with-failures")))
    fake.on("POST", "/batches/b1/retry", Say(202, batch(id="b1.retry-1")))
    fake.on("GET", "/batches/b1.retry-1/events", Say(events=[batch("completed", id="b1.retry-1", matched=2)]))
    done = cli("batches", "retry", "b1")
    assert (done.returncode, json.loads(done.stdout)["id"]) == (0, "b1.retry-1")
    terminal = cli.on_a_terminal("batches", "retry", "b1", "--no-wait")
    assert (terminal.close(), "b1.retry-1 is under way" in terminal.shown) == (0, True)


def test_a_batch_that_is_not_there_or_over_has_its_exit_code(cli: Cli, fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(404, {"detail": "there is no batch b1"}))
    assert cli("batches", "pause", "b1").returncode == 5
    fake.on("GET", "/batches/b1", Say(200, batch("completed")))
    fake.on("POST", "/batches/b1/pause", Say(409, {"detail": "batch b1 is completed"}))
    assert cli("batches", "pause", "b1").returncode == 6


# -- partitions ----------------------------------------------------------------------------------------------


def test_partitions_are_shown_with_the_batches_in_force(cli: Cli, fake: FakeServer) -> None:
    pending = {"id": "b1", "action": "kill", "cursor_fraction": 0.25, "paused": True}
    well = {"partition": 0, "owner": "worker-0", "position": 41, "end": 42, "pending": [pending]}
    fake.on("GET", "/partitions", Say(200, [well, {"partition": 1, "failure": "the store is from another log"}]))
    assert json.loads(cli("partitions").stdout)[0]["pending"][0]["id"] == "b1"
    shown = cli("partitions", "-o", "table").stdout.splitlines()
    assert shown[1].split() == ["0", "worker-0", "41", "0", "0", "b1", "paused", "at", "25%"]
    assert shown[2].split()[:3] == ["1", "stands", "still"]
    assert shown[3] == "partition 1 stands still: the store is from another log"
