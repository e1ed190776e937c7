"""What operators and callers do to invocations, from the outside: keys, families, guards, ages, repeats."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.http.surface import assert_problem
from tests.system import evidence
from tests.system.rows import Row, at, exact, id_of_key, ids_of, lines, row
from tests.system.server import Server, eventually

_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A service that no other test has."""
    return f"Svc{next(_names)}"


def take(server: Server, *rows: Row) -> list[str]:
    """Import the rows; their ids."""
    report = server.import_lines(lines(rows))
    assert (report["imported"], report["failed"]) == (len(rows), 0), report
    return [row["id"] for row in rows]


def statuses(server: Server, service: str) -> dict[str, str]:
    """Id → status of all of a service."""
    return {row["id"]: row["status"] for row in server.list(f"service={service}")}


# -- keys ----------------------------------------------------------------------------------------------------


def queue(name: str, count: int = 4) -> list[Row]:
    """A key's holder and those that wait for it, the last in line first."""
    waiting = [row(f"{name}/k/add", "pending", inboxed_at=at(50 - n)) for n in range(count)]
    return [*reversed(waiting), row(f"{name}/k/add")]


def test_the_end_of_its_holder_hands_a_key_to_whoever_was_inboxed_first(server: Server, name: str) -> None:
    *waiting, holder = take(server, *queue(name))
    line = [holder, *reversed(waiting)]
    for place, ended in enumerate(line[:-1]):
        assert server("PATCH", f"/invocations/{ended}/kill").status_code == 200
        now = statuses(server, name)
        assert now[line[place + 1]] == "ready"
        assert {now[id] for id in line[place + 2 :]} <= {"pending"}


def test_those_that_were_inboxed_at_one_instant_go_by_their_ids(server: Server, name: str) -> None:
    instant = at(40)
    waiting = [row(f"{name}/k/add", "pending", inboxed_at=instant, id=id_of_key("k")) for _ in range(3)]
    *_, holder = take(server, *sorted(waiting, key=lambda one: one["id"], reverse=True), row(f"{name}/k/add"))
    assert server("PATCH", f"/invocations/{holder}/kill").status_code == 200
    ready = [id for id, status in statuses(server, name).items() if status == "ready"]
    assert ready == [min(one["id"] for one in waiting)]


def test_to_kill_a_holder_with_all_that_wait_starts_none_of_them(server: Server, name: str) -> None:
    """One command: none of them is started only to be ended by the next."""
    ids = take(server, *queue(name, 40))
    batch = server.bulk("kill", f"{name}/k")
    assert (batch["matched"], batch["ended"]) == (41, 41)
    assert set(statuses(server, name).values()) == {"completed"}
    assert not evidence.started(server.data) & set(ids)
    after = server.send(f"{name}/k/add")
    assert server.get(after)["status"] == "ready", "the key is free again"


def test_to_kill_those_that_hold_keys_starts_one_for_each(server: Server, name: str) -> None:
    *waiting, holder = take(server, *queue(name))
    batch = server.do("kill", {"service": name, "status": ["suspended"]})
    assert batch["ended"] == 1
    now = statuses(server, name)
    assert (now[holder], now[waiting[-1]]) == ("completed", "ready")
    assert {now[id] for id in waiting[:-1]} == {"pending"}


def test_a_cancelled_one_is_passed_over_when_its_turn_comes(server: Server, name: str) -> None:
    *waiting, holder = take(server, *queue(name))
    first, second = waiting[-1], waiting[-2]
    response = server("PATCH", f"/invocations/{first}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "completed")
    assert server.get(first)["outcome"] == "cancelled"
    server("PATCH", f"/invocations/{holder}/kill")
    assert statuses(server, name)[second] == "ready"


def test_imported_and_new_ones_of_a_key_stand_in_one_queue(server: Server, name: str) -> None:
    *waiting, holder = take(server, *queue(name, 1))
    new = server.send(f"{name}/k/add")
    assert server.get(new)["status"] == "pending"
    server("PATCH", f"/invocations/{holder}/kill")
    assert statuses(server, name) == {holder: "completed", waiting[0]: "ready", new: "pending"}


# -- families ------------------------------------------------------------------------------------------------


def test_a_killed_parent_takes_its_attached_children_along_and_not_the_detached(server: Server, name: str) -> None:
    parent = row(f"{name}/root", partition=0)
    children = [row(f"{name}Child/run", partition=n, invoked_by_id=parent["id"]) for n in range(4)]
    grandchildren = [row(f"{name}Leaf/run", invoked_by_id=child["id"]) for child in children]
    detached = [row(f"{name}Later/run", "scheduled", partition=n, invoked_by_id=parent["id"]) for n in range(4)]
    # The leaves first: everyone's parent comes later in the file.
    take(server, *grandchildren, *detached, *children, parent)
    batch = server.bulk("kill", name, "--reason", "wrong tree")
    assert (batch["matched"], batch["ended"], batch["propagated"]) == (1, 1, 8)
    for one in (parent, *children, *grandchildren):
        shown = server.get(one["id"])
        assert (shown["status"], shown["outcome"], shown["batch"]) == ("completed", "killed", batch["id"])
    assert set(statuses(server, f"{name}Later").values()) == {"scheduled"}
    assert all(server.get(one["id"])["detached"] for one in detached)


def test_children_may_be_imported_long_before_their_parent(server: Server, name: str) -> None:
    parent = row(f"{name}/root", partition=1)
    children = [row(f"{name}Child/run", partition=n, invoked_by_id=parent["id"]) for n in range(4)]
    take(server, *children)
    server.restart()
    take(server, parent)
    assert server.bulk("kill", f"{name}/root")["propagated"] == 4
    assert set(statuses(server, f"{name}Child").values()) == {"completed"}


def test_the_end_of_a_child_wakes_the_parent_that_waits_for_it(server: Server, name: str) -> None:
    parent = row(f"{name}/root", partition=0)
    child = row(f"{name}Child/run", partition=3, invoked_by_id=parent["id"])
    take(server, parent, child)
    server("DELETE", f"/invocations/{child['id']}")
    eventually(lambda: server.get(parent["id"])["status"] == "ready")


def test_a_cancel_goes_to_the_leaves_first(server: Server, name: str) -> None:
    parent = row(f"{name}/root", partition=0)
    children = [row(f"{name}Child/run", partition=n, invoked_by_id=parent["id"]) for n in (1, 2)]
    take(server, parent, *children)
    batch = server.do("cancel", {"service": name})
    assert (batch["signalled"], batch["ended"]) == (1, 0)
    assert set(statuses(server, f"{name}Child").values()) == {"ready"}, "they are started again to hear of it"
    assert server.get(parent["id"])["status"] == "suspended"
    for child in children:
        assert server.get(parent["id"])["status"] == "suspended"
        server("DELETE", f"/invocations/{child['id']}")
    eventually(lambda: server.get(parent["id"])["status"] == "ready")
    server("DELETE", f"/invocations/{parent['id']}")
    eventually(lambda: server.batch(batch["id"])["ended_by_other"] == 1)


# -- what is named -------------------------------------------------------------------------------------------


def test_several_ids_are_one_batch_over_just_these(server: Server, name: str) -> None:
    ids = take(server, *(row(f"{name}/run", partition=n % 4) for n in range(8)))
    batch = server.bulk("kill", *ids[:5])
    assert (batch["matched"], batch["ended"], sorted(batch["filter"]["ids"])) == (5, 5, sorted(ids[:5]))
    assert {id for id, status in statuses(server, name).items() if status == "completed"} == set(ids[:5])


def test_before_is_earlier_and_after_is_then_or_later(server: Server, name: str) -> None:
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    moments = [noon + timedelta(microseconds=n) for n in (-1, 0, 1)]
    ids = take(server, *(row(f"{name}/run", created_at=exact(moment), modified_at=exact(moment)) for moment in moments))
    for field in ("created", "modified"):
        before = {one["id"] for one in server.list(f"service={name}&{field}_before={exact(noon)}")}
        after = {one["id"] for one in server.list(f"service={name}&{field}_after={exact(noon)}")}
        assert (before, after) == ({ids[0]}, {ids[1], ids[2]})
    counted = server.bulk("kill", name, "--created-after", exact(noon), "--created-before", exact(moments[2]))
    assert (counted["matched"], counted["ended"]) == (1, 1)
    assert statuses(server, name)[ids[1]] == "completed"
    assert server.bulk("kill", name, "--modified-before", "2026-11-01T13:00:00.000000+01:00")["matched"] == 1
    assert list(statuses(server, name).values()).count("completed") == 2


def test_an_age_is_counted_back_from_now(server: Server, name: str) -> None:
    ages = {"old": 8 * 86_400, "new": 6 * 86_400}
    made = {age: row(f"{name}/run", created_at=at(s), modified_at=at(s)) for age, s in ages.items()}
    take(server, *made.values())
    assert server.bulk("kill", name, "--created-before", "7d")["ended"] == 1
    assert statuses(server, name) == {made["old"]["id"]: "completed", made["new"]["id"]: "suspended"}


def test_what_is_completed_for_long_is_purged_and_the_rest_kept(server: Server, name: str) -> None:
    rows = [
        row(f"{name}/run", "completed", modified_at=at(days * 86_400), completed_at=at(days * 86_400))
        for days in (6, 8, 9)
    ]
    live = row(f"{name}/run", modified_at=at(9 * 86_400))
    take(server, *rows, live)
    batch = server.bulk("purge", name, "--modified-before", "7d")
    assert (batch["matched"], batch["applied"]) == (2, 2)
    assert statuses(server, name).keys() == {rows[0]["id"], live["id"]}
    assert_problem(server("GET", f"/invocations/{rows[1]['id']}"), 404)


def test_nothing_that_matches_is_no_failure(server: Server, name: str) -> None:
    for action in ("kill", "cancel", "pause", "resume", "purge"):
        done = server.cli("invocations", action, name, "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout.splitlines()[-1])["matched"] == 0
    done = server.cli("invocations", "list", name)
    assert (done.returncode, done.stdout) == (0, "[]\n")


# -- before anything is touched ------------------------------------------------------------------------------


def test_a_dry_run_counts_and_does_nothing(server: Server, name: str) -> None:
    rows = [*(row(f"{name}/run", partition=n % 4) for n in range(6)), row(f"{name}/run", "completed")]
    take(server, *rows)
    before = server.list(f"service={name}")
    batch = server.bulk("kill", name, "--dry-run")
    assert (batch["dry_run"], batch["matched"], batch["applied"], batch["ended"]) == (True, 6, 6, 0)
    assert server.list(f"service={name}") == before


@pytest.mark.parametrize(
    ("guard", "code"), [(("--expect", "5"), 3), (("--expect", "6"), 0), (("--max", "5"), 3), (("--max", "6"), 0)]
)
def test_a_guard_lets_all_be_touched_or_nothing(server: Server, name: str, guard: tuple[str, str], code: int) -> None:
    ids = take(server, *(row(f"{name}/run", partition=n % 4) for n in range(6)))
    before = server.list(f"service={name}")
    done = server.cli("invocations", "kill", name, "--yes", *guard)
    assert done.returncode == code
    batch = json.loads(done.stdout.splitlines()[-1])
    if code:
        assert (batch["state"], batch["matched"], batch["ended"]) == ("refused", 0, 0)
        assert "6 were found" in done.stderr
        assert server.list(f"service={name}") == before
    else:
        assert (batch["state"], batch["matched"], batch["ended"], batch["members"]) == ("completed", 6, 6, 6)
        assert {id for id, status in statuses(server, name).items() if status == "completed"} == set(ids)


def test_without_a_yes_a_program_touches_nothing(server: Server, name: str) -> None:
    take(server, row(f"{name}/run"))
    done = server.cli("invocations", "kill", name)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert set(statuses(server, name).values()) == {"suspended"}


# -- the verbs -----------------------------------------------------------------------------------------------


def test_many_are_paused_and_go_on(server: Server, name: str) -> None:
    waiting, retrying = row(f"{name}/run"), row(f"{name}/run", "backing-off")
    take(server, waiting, retrying)
    ready = server.send(f"{name}/run")
    later = server.send(f"{name}/run", "delay=1h")
    assert server.bulk("pause", name)["applied"] == 3
    paused = {waiting["id"], retrying["id"], ready}
    assert statuses(server, name) == dict.fromkeys(paused, "paused") | {later: "scheduled"}
    services = [{"name": name, "type": "service", "handlers": [{"name": "run"}]}]
    assert server("POST", "/deployments", json={"id": "dp_new", "services": services}).status_code == 201
    assert server.bulk("resume", name, "--deployment", "dp_new")["applied"] == 3
    assert statuses(server, name) == dict.fromkeys(paused, "ready") | {later: "scheduled"}
    assert {server.get(id)["deployment"] for id in paused} == {"dp_new"}


@pytest.mark.parametrize("status", ["scheduled", "pending"])
def test_a_cancel_of_what_has_not_begun_is_its_end(server: Server, name: str, status: str) -> None:
    holder = row(f"{name}/k/add")
    one, other = (row(f"{name}/k/add", status) for _ in range(2))
    take(server, holder, one, other)
    done = server.cli("invocations", "cancel", one["id"])
    assert (done.returncode, json.loads(done.stdout)) == (0, {"id": one["id"], "status": "completed", "done": True})
    batch = server.do("cancel", {"service": name, "status": [status]})
    assert (batch["matched"], batch["ended"], batch["signalled"]) == (1, 1, 0)
    assert {server.get(each["id"])["outcome"] for each in (one, other)} == {"cancelled"}


def test_a_cancel_of_what_runs_asks_it_to_end(server: Server, name: str) -> None:
    [id] = take(server, row(f"{name}/run"))
    response = server("PATCH", f"/invocations/{id}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "ready")
    batch = server.do("cancel", {"service": name})
    assert (batch["matched"], batch["already_signalled"]) == (1, 1)


def test_what_is_over_cannot_be_ended_and_what_is_not_cannot_be_purged(server: Server, name: str) -> None:
    [over, live] = take(server, row(f"{name}/run", "completed"), row(f"{name}/run"))
    for action in ("kill", "cancel", "pause", "resume"):
        assert_problem(server("PATCH", f"/invocations/{over}/{action}"), 409, says="completed")
    assert_problem(server("DELETE", f"/invocations/{live}/purge"), 409, says="suspended")
    assert server.cli("invocations", "kill", over).returncode == 6
    batch = server.do("kill", {"ids": [over, live], "status": ["completed", "suspended"]})
    assert (batch["matched"], batch["ended"], batch["not_applicable"]) == (2, 1, 1)


# -- beginning -----------------------------------------------------------------------------------------------


def test_a_delayed_one_becomes_ready_by_itself(server: Server, name: str) -> None:
    done = server.cli("invocations", "start", f"{name}/run", "--delay", "1s", "--input", '{"name": "Ada"}')
    assert done.returncode == 0, done.stderr
    id = json.loads(done.stdout)["id"]
    shown = server.get(id)
    due = datetime.fromisoformat(shown["scheduled_at"])
    assert timedelta(0) <= due - datetime.fromisoformat(shown["created_at"]) <= timedelta(seconds=1)
    eventually(lambda: server.get(id)["status"] == "ready")
    assert timedelta(0) <= datetime.fromisoformat(server.get(id)["modified_at"]) - due
    assert datetime.now(UTC) >= due


def test_an_idempotency_key_is_one_invocation_until_it_is_purged(server: Server, name: str) -> None:
    key = ("--idempotency-key", "payment-123")
    first, again = (json.loads(server.cli("invocations", "start", f"{name}/charge", *key).stdout) for _ in range(2))
    assert again["id"] == first["id"]
    by_http = server("POST", f"/services/{name}/charge/send", headers={"Idempotency-Key": "payment-123"})
    assert (by_http.status_code, by_http.json()["id"]) == (200, first["id"])
    assert server.send(f"{name}/refund", headers={"Idempotency-Key": "payment-123"}) != first["id"]
    server("PATCH", f"/invocations/{first['id']}/kill")
    assert server.send(f"{name}/charge", headers={"Idempotency-Key": "payment-123"}) == first["id"], "still remembered"
    server("DELETE", f"/invocations/{first['id']}/purge")
    assert server.send(f"{name}/charge", headers={"Idempotency-Key": "payment-123"}) != first["id"]


def test_an_imported_idempotency_key_of_an_object_counts_for_what_comes_after(server: Server, name: str) -> None:
    [id] = take(server, row(f"{name}/k/add", idempotency_key="once"))
    response = server("POST", f"/services/{name}/k/add/send", headers={"Idempotency-Key": "once"})
    assert (response.status_code, response.json()["id"]) == (200, id)


def test_a_workflow_runs_once_for_each_key(server: Server, name: str) -> None:
    [id] = take(server, row(f"{name}/order-1/run", target_service_ty="workflow"))
    response = server("POST", f"/services/{name}/order-1/run/send")
    assert (response.status_code, response.json()["id"]) == (200, id)
    other = server.send(f"{name}/order-2/run")
    assert server.send(f"{name}/order-2/run") == other != id


# -- importing -----------------------------------------------------------------------------------------------


def test_what_is_there_is_left_alone_by_an_import(server: Server, name: str) -> None:
    first, second = row(f"{name}/run"), row(f"{name}/run")
    take(server, first)
    server("DELETE", f"/invocations/{first['id']}")
    done = server.cli("import", "-", stdin=lines([first, second, second]))
    assert (done.returncode, json.loads(done.stdout)["imported"], json.loads(done.stdout)["existing"]) == (0, 1, 2)
    assert statuses(server, name) == {first["id"]: "completed", second["id"]: "suspended"}


def test_a_bad_line_is_told_and_the_rest_goes_on(server: Server, name: str) -> None:
    good = [row(f"{name}/run") for _ in range(2)]
    wrong_key = row(f"{name}/k/add") | {"target_service_key": "another"}
    bad = [b"{", b'{"id": "x"}\n', b"\xff\xfe\n", lines([row(f"{name}/run", "dreaming")]), lines([wrong_key])]
    text = lines(good[:1]) + bad[0] + b"\n" + b"".join(bad[1:]) + b"\n" + lines(good[1:])
    done = server.cli("import", "-", stdin=text)
    report = json.loads(done.stdout)
    assert (done.returncode, report["imported"], report["failed"]) == (1, 2, 5)
    assert [fault["line"] for fault in report["errors"]] == [2, 3, 4, 5, 6]
    assert "line 5: status 'dreaming' is none of" in done.stderr
    assert statuses(server, name).keys() == ids_of(good)


def test_everything_here_is_what_the_log_says(server: Server) -> None:
    found = server.check()
    assert found.returncode == 0, found.stdout + found.stderr
