"""cancel, kill and the others: one or many, asked or not, and the exit code of each end."""

import json
import threading
from typing import Any

import pytest

from coordinator.model.ids import derived_id
from tests.cli.conftest import Cli
from tests.client.fake_server import FakeServer, Say, batch

ONE, OTHER = derived_id("one", 0, None), derived_id("other", 0, None)


def submitted(fake: FakeServer, *last: dict[str, Any]) -> None:
    """The server takes any batch and tells of it what is given."""
    fake.on("POST", "/batches", Say(202, batch("accepted")))
    fake.on("GET", "/batches/b1/events", Say(events=list(last)))


def bodies(fake: FakeServer) -> list[dict[str, Any]]:
    """The batches that were asked for, without the ids that are chosen for them."""
    asked = [one.json for one in fake.asked_for("POST", "/batches")]
    return [{name: value for name, value in one.items() if name != "request_id"} for one in asked]


# -- one invocation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["cancel", "kill", "pause", "resume", "purge", "restart-as-new"])
def test_one_id_goes_to_that_invocation_and_never_asks(cli: Cli, fake: FakeServer, action: str) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/{action}", Say(202, {"id": ONE, "status": "ready"}))
    done = cli("invocations", action, ONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"id": ONE, "status": "ready", "done": False}


@pytest.mark.parametrize("command", ["restart-as-new", "restart"])
def test_a_restart_says_which_one_is_new(cli: Cli, fake: FakeServer, command: str) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/restart-as-new", Say(202, {"id": OTHER}))
    assert json.loads(cli("invocations", command, ONE).stdout) == {"id": OTHER, "done": False}
    terminal = cli.on_a_terminal("invocations", command, ONE)
    assert terminal.close() == 0
    assert terminal.shown.strip() == f"{ONE} restarted as {OTHER}"


def test_what_is_purged_has_no_status(cli: Cli, fake: FakeServer) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/purge", Say(200, {"id": ONE}))
    done = cli("invocations", "purge", ONE)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"id": ONE, "done": True})


def test_resume_may_name_a_deployment(cli: Cli, fake: FakeServer) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/resume", Say(200, {"id": ONE, "status": "ready"}))
    assert cli("invocations", "resume", ONE, "--deployment", "dp_2").returncode == 0
    assert fake.asked[0].query == [("deployment", "dp_2")]
    assert cli("invocations", "kill", ONE, "--deployment", "dp_2").returncode == 2


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 1), (404, 5), (409, 6), (413, 2), (500, 1), (503, 4)])
def test_what_the_server_says_is_an_exit_code_and_a_sentence(
    cli: Cli, fake: FakeServer, status: int, code: int
) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/kill", Say(status, {"detail": "this is why"}))
    done = cli("inv", "kill", ONE)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("Error: ")
    assert "this is why" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_server_the_exit_code_is_4(cli: Cli, fake: FakeServer) -> None:
    fake.stop()
    done = cli("invocations", "kill", ONE)
    assert done.returncode == 4
    assert "start one with `coordinator serve`" in done.stderr


@pytest.mark.parametrize("flags", [["--dry-run"], ["--reason", "why"], ["--status", "running"], ["--max", "1"]])
def test_one_id_with_what_only_a_batch_can_do_is_a_batch_that_does_not_ask(
    cli: Cli, fake: FakeServer, flags: list[str]
) -> None:
    submitted(fake, batch("completed"))
    assert cli("invocations", "kill", ONE, *flags).returncode == 0
    assert bodies(fake)[0]["filter"]["ids"] == [ONE]


def test_one_id_with_a_grace_is_a_batch(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch("completed"))
    assert cli("invocations", "cancel", ONE, "--grace", "30s").returncode == 0
    assert bodies(fake) == [{"action": "cancel", "filter": {"ids": [ONE]}, "grace": "30s"}]
    assert cli("invocations", "kill", ONE, "--grace", "30s").returncode == 2


def test_what_a_batch_has_killed_is_said_well_enough_by_its_id(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch("completed"))
    args = ["invocations", "restart", "--killed-by", "b0", "--yes"]
    assert cli(*args).returncode == 0
    assert cli(*args, "--service", "Greeter").returncode == 0
    assert [one["filter"] for one in bodies(fake)] == [{"killed_by": "b0"}, {"service": "Greeter", "killed_by": "b0"}]
    assert cli("invocations", "restart", ONE, "--killed-by", "b0").returncode == 0
    assert bodies(fake)[-1]["filter"] == {"ids": [ONE], "killed_by": "b0"}


# -- what is meant -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "filter"),
    [
        (["Greeter"], {"target": "Greeter"}),
        (["CartObject/cart55/add"], {"target": "CartObject/cart55/add"}),
        ([ONE, OTHER, ONE], {"ids": [ONE, OTHER]}),
        (["--all"], {"all": True}),
        (
            ["Greeter", "--status", "running", "--status", "paused"],
            {"target": "Greeter", "status": ["paused", "running"]},
        ),
        (
            ["--service", "S", "--handler", "h", "--key", "k", "--on-deployment", "dp"],
            {"service": "S", "handler": "h", "key": "k", "deployment": "dp"},
        ),
        (
            ["--created-before", "2h", "--created-after", "7d", "--modified-before", "1h", "--modified-after", "1d"],
            {"created_before": "2h", "created_after": "7d", "modified_before": "1h", "modified_after": "1d"},
        ),
    ],
)
def test_queries_and_flags_are_one_filter(cli: Cli, fake: FakeServer, args: list[str], filter: dict[str, Any]) -> None:
    submitted(fake, batch("completed"))
    done = cli("invocations", "kill", *args, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(fake) == [{"action": "kill", "filter": filter}]


def test_batch_options_reach_the_server(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch("completed"))
    options = ["--request-id", "r1", "--reason", "bad deploy", "--dry-run", "--expect", "5", "--rate", "10"]
    assert cli("invocations", "resume", "Greeter", "--deployment", "dp_2", *options).returncode == 0
    [asked] = fake.asked_for("POST", "/batches")
    assert asked.json == {
        "request_id": "r1",
        "action": "resume",
        "filter": {"target": "Greeter"},
        "reason": "bad deploy",
        "guard": {"expect": 5},
        "rate": 10,
        "deployment": "dp_2",
        "dry_run": True,
    }


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "say which invocations"),
        (["Greeter", "Namer"], "several targets"),
        (["Greeter", ONE], "do not go together"),
        (["Greeter"], "needs --yes where nobody can be asked"),
        ([ONE, OTHER], "needs --yes"),
        (["Greeter", "--max", "-1"], "Invalid value for '--max'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_bad_usage_is_said_before_anything_is_asked_for(cli: Cli, fake: FakeServer, args: list[str], says: str) -> None:
    done = cli("invocations", "kill", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert fake.asked == []


# -- how it ends ---------------------------------------------------------------------------------------------


def test_progress_is_one_object_a_line(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch(matched=1, ended=1), batch("completed", matched=2, ended=2))
    done = cli("invocations", "kill", "Greeter", "--yes")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["state"], line["ended"]) for line in lines] == [("running", 1), ("completed", 2)]


@pytest.mark.parametrize(
    ("last", "code", "says"),
    [
        (batch("completed"), 0, ""),
        (batch("completed", matched=1, failed=1), 1, "1 failed"),
        (batch("completed-with-failures", matched=1, failed=1), 1, "completed-with-failures; 1 failed"),
        (batch("refused", refusal="5 were expected and 7 were found"), 3, "5 were expected and 7 were found"),
        (batch("aborted", matched=3, ended=3), 1, "Error: the batch was aborted; what it has done stays done"),
    ],
)
def test_the_end_of_a_batch_is_an_exit_code(
    cli: Cli, fake: FakeServer, last: dict[str, Any], code: int, says: str
) -> None:
    submitted(fake, last)
    done = cli("invocations", "kill", "Greeter", "--yes")
    assert done.returncode == code
    assert says in done.stderr


def test_without_waiting_the_batch_is_told_as_it_was_accepted(cli: Cli, fake: FakeServer) -> None:
    submitted(fake)
    done = cli("invocations", "kill", "Greeter", "--yes", "--no-wait")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "accepted")
    assert [asked.path for asked in fake.asked] == ["/batches"]


# -- on a terminal -------------------------------------------------------------------------------------------


def test_a_person_is_asked_with_the_number_it_would_be(cli: Cli, fake: FakeServer) -> None:
    fake.on("POST", "/batches", Say(202, batch(id="dry")), Say(202, batch()))
    fake.on("GET", "/batches/dry/events", Say(events=[batch("completed", id="dry", matched=1234, applied=1230)]))
    fake.on("GET", "/batches/b1/events", Say(events=[batch("completed", matched=1230, ended=1230)]))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter", "--status", "running", "--expect", "1230")
    shown = terminal.read_until("[y/N] ")
    assert "Kill 1,230 invocations (and leave 4 others that match as they are)" in shown
    assert "target Greeter, status running?" in shown
    terminal.type("y\n")
    assert terminal.close() == 0
    assert "b1 completed: 1,230 matched, 1,230 ended" in terminal.shown
    filter = {"target": "Greeter", "status": ["running"]}
    assert bodies(fake) == [
        {"action": "kill", "filter": filter, "dry_run": True, "reason": "counted to ask before a kill"},
        {"action": "kill", "filter": filter, "guard": {"expect": 1230}},
    ]


@pytest.mark.parametrize("answer", ["\n", "n\n", "nonsense\n", "\x04"])
def test_anything_but_yes_declines(cli: Cli, fake: FakeServer, answer: str) -> None:
    submitted(fake, batch("completed", matched=1, applied=1))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter")
    terminal.read_until("Kill 1 invocation: target Greeter? [y/N] ")
    terminal.type(answer)
    assert terminal.close() == 3
    assert "declined; nothing was done" in terminal.shown
    assert [body["dry_run"] for body in bodies(fake)] == [True]


def test_nobody_is_asked_about_nothing(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch("completed"))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter")
    assert terminal.close() == 0
    assert "no invocation matches; nothing was done" in terminal.shown


def test_an_interrupt_at_the_question_does_nothing(cli: Cli, fake: FakeServer) -> None:
    submitted(fake, batch("completed", matched=1, applied=1))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter")
    terminal.read_until("[y/N] ")
    terminal.interrupt()
    assert terminal.close() == 130
    assert len(bodies(fake)) == 1


def test_an_interrupt_leaves_the_batch_running_and_says_how_to_watch_it(cli: Cli, fake: FakeServer) -> None:
    held = threading.Event()
    fake.on("POST", "/batches", Say(202, batch()))
    fake.on("GET", "/batches/b1/events", Say(events=[batch(matched=10, ended=5)], hold=held))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter", "--yes")
    terminal.read_until("10 matched, 5 ended")
    terminal.interrupt()
    code = terminal.close()
    held.set()
    assert code == 130
    assert "batch b1 goes on. Watch it with: coordinator batches watch b1" in terminal.shown


def test_the_bar_shows_counts_rate_and_time_left(cli: Cli, fake: FakeServer) -> None:
    held = threading.Event()
    running = batch(matched=500, ended=500, remaining=1500, rate_per_s=100.0, progress_fraction=0.25, stalled=[2])
    fake.on("POST", "/batches", Say(202, batch()))
    fake.on("GET", "/batches/b1/events", Say(events=[running], hold=held), Say(events=[batch("completed")]))
    terminal = cli.on_a_terminal("invocations", "kill", "Greeter", "--yes")
    shown = terminal.read_until("no word from partition 2")
    assert "500 matched, 500 ended · 100/s · 15 s left" in shown
    held.set()
    assert terminal.close() == 0


def test_single_actions_are_told_in_words(cli: Cli, fake: FakeServer) -> None:
    fake.on("PATCH", f"/invocations/{ONE}/kill", Say(200, {"id": ONE, "status": "completed"}))
    fake.on("PATCH", f"/invocations/{ONE}/cancel", Say(202, {"id": ONE, "status": "running"}))
    killed = cli.on_a_terminal("inv", "kill", ONE)
    assert (killed.close(), killed.shown) == (0, f"{ONE} killed\n")
    asked = cli.on_a_terminal("inv", "cancel", ONE)
    assert (asked.close(), asked.shown) == (0, f"{ONE} asked to cancel\n")
