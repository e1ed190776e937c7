"""Participants' sessions that another process has: it is asked, and what it answers comes back as it comes."""

from collections.abc import Iterator

import httpx
import pytest

from coordinator.http.passing import PASSED_ON
from coordinator.runtime.dispatch.dispatcher import Reported
from tests.http.served import served, standing
from tests.http.stub import StubGateway
from tests.http.surface import Surface, assert_problem


@pytest.fixture
def there() -> StubGateway:
    """The process that has the sessions."""
    return StubGateway()


@pytest.fixture
def url(there: StubGateway) -> Iterator[str]:
    """The process that is asked."""
    with served(standing(there)) as behind:
        here = StubGateway()
        here.sessions_elsewhere = behind.removeprefix("http://")
        with served(standing(here)) as url:
            yield url


def check(method: str, path: str, response: httpx.Response) -> httpx.Response:
    Surface().check(method, path, response)
    return response


def test_a_session_lives_where_it_belongs_whoever_is_asked(url: str, there: StubGateway) -> None:
    opened = httpx.post(f"{url}/sessions", json={"deployment": "dp_1", "capacity": 3})
    check("POST", "/sessions", opened)
    assert (opened.status_code, opened.headers["location"]) == (201, f"/sessions/{opened.json()['id']}")
    assert there.asked == [("open", "dp_1", 3)]
    session = f"/sessions/{opened.json()['id']}"
    there.dispatcher.reported = [Reported(200)]
    reported = httpx.post(f"{url}{session}/reports", content=b"frames")
    assert check("POST", f"{session}/reports", reported).content == b"\x91\x93\xcc\xc8\xc0\xc0"
    assert there.asked[-1] == ("report", opened.json()["id"], b"frames")
    there.dispatcher.chunks = [b"one", b"two"]
    assert check("GET", f"{session}/deliveries", httpx.get(f"{url}{session}/deliveries")).content == b"onetwo"
    assert check("DELETE", session, httpx.delete(f"{url}{session}")).status_code == 204


def test_problems_there_are_problems_here(url: str) -> None:
    assert_problem(httpx.post(f"{url}/sessions", json={"deployment": "dp_1", "capacity": 0}), 400, field="capacity")
    assert_problem(httpx.get(f"{url}/sessions/none/deliveries"), 404, says="open another")
    assert_problem(httpx.post(f"{url}/sessions?misspelt=1", json={}), 400, field="misspelt")


def test_what_was_passed_on_once_is_not_passed_on_again(url: str) -> None:
    response = httpx.post(f"{url}/sessions", json={}, headers={PASSED_ON: "1"})
    assert_problem(response, 503, says="moving to another process")


def test_a_process_that_does_not_answer_is_named() -> None:
    at = Surface()
    at.gateway.sessions_elsewhere = "127.0.0.1:1"
    assert_problem(at("POST", "/sessions", json={}), 503, says="127.0.0.1:1 has the participants' sessions")
