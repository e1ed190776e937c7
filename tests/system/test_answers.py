"""Every action asked of an invocation in every status, of a real server: it answers what the documentation says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from coordinator.model.statuses import NAMES, Action
from tests.docs.pages import page, tables
from tests.http.surface import assert_problem
from tests.system.participant import participant
from tests.system.rows import at, id_on, lines, row
from tests.system.server import Server, eventually

ACTIONS = [action for action in Action if action is not Action.COUNT]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a participant, which holds what it is given of `Echo/hold`."""
    with participant(server.url, tmp_path_factory.mktemp("participant") / "log"):
        yield server


def documented() -> dict[tuple[str, str], str]:
    """Status and action → what the page says of it."""
    head = ["status", *(f"`{action}`" for action in ACTIONS)]
    rows = list(tables(page("statuses.md")))
    first = rows.index(head) + 1
    return {
        (cells[0].strip("`"), action): says
        for cells in rows[first : first + len(NAMES)]
        for action, says in zip(ACTIONS, cells[1:], strict=True)
    }


def in_status(server: Server, status: str, action: str) -> str:
    """An invocation in this status; its id."""
    if status == "running":
        id = server.send("Echo/hold")
        eventually(lambda: server.get(id)["status"] == status)
        return id
    target = f"Asked/key-{next(_numbers)}/run"
    if action == Action.RESTART_AS_NEW and status == "completed":  # one that was imported has no input
        id = server.send(target)
        assert server("PATCH", f"/invocations/{id}/kill").status_code == 200
        return id
    asked = row(target, status)
    holder = [row(target, "running", created_at=at(120))] if status == "pending" else []
    server.import_lines(lines([*holder, asked]))
    return str(asked["id"])


def test_the_page_says_something_of_every_action_in_every_status() -> None:
    assert set(documented()) == set(itertools.product(NAMES.values(), ACTIONS))


@pytest.mark.parametrize(("status", "action"), documented())
def test_the_server_answers_as_documented(served: Server, status: str, action: str) -> None:
    number, _, becomes = documented()[status, action].replace("`", "").replace(" →", ",").partition(", ")
    id = in_status(served, status, action)
    before = served.get(id)
    assert before["status"] == status
    answer = served("PATCH", f"/invocations/{id}/{action}")
    assert answer.status_code == int(number)
    if becomes == "removed":
        assert_problem(served("GET", f"/invocations/{id}"), 404)
        return
    after = served.get(id)
    if number == "409":
        assert_problem(answer, 409, says=f"{id} is {status}; {action} does not apply")
        assert after == before
    elif becomes == "another one":
        assert (after["status"], after["restarted_as"]) == (status, answer.json()["id"])
    elif becomes == "unchanged":
        assert after == before
    else:
        assert becomes in (after["status"], after["outcome"])


def test_one_that_was_imported_as_running_is_held_by_nobody_and_told_by_its_next_attempt(server: Server) -> None:
    imported = row("Gone/run", "running")
    server.import_lines(lines([imported]))
    assert server("PATCH", f"/invocations/{imported['id']}/cancel").status_code == 202
    assert server.get(imported["id"])["status"] == "ready"


@pytest.mark.parametrize(
    ("method", "path"),
    [*(("PATCH", f"/{action}") for action in ACTIONS), ("DELETE", ""), ("DELETE", "/purge"), ("GET", "")],
)
def test_what_is_not_there_is_404(server: Server, method: str, path: str) -> None:
    id = id_on(0)
    assert_problem(server(method, f"/invocations/{id}{path}"), 404, says=f"{id} is not there, or no longer")


@pytest.mark.parametrize(("path", "status"), [("", "suspended"), ("/purge", "completed")])
def test_delete_kills_and_purges_as_patch_does(server: Server, path: str, status: str) -> None:
    id = in_status(server, status, "")
    assert server("DELETE", f"/invocations/{id}{path}").status_code == 200
    assert_problem(server("DELETE", f"/invocations/{id}{path}"), 404 if path else 409)
