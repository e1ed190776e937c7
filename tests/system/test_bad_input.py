"""What cannot be meant so: refused with the field and one sentence, over HTTP and from the command line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.model import limits
from tests.cli.conftest import Cli
from tests.http.served import connect, read_head
from tests.http.surface import assert_problem
from tests.system.rows import id_on, lines, row
from tests.system.server import Server, free_port

KILL = {"action": "kill", "filter": {"service": "Kept"}}
DEEP = 100_000


@pytest.fixture(scope="module")
def kept(server: Server) -> Iterator[Server]:
    """The server with something on it that nothing here may touch."""
    server.import_lines(lines(row("Kept/run") for _ in range(20)))
    yield server
    assert {one["status"] for one in server.list("service=Kept")} == {"suspended"}
    assert len(server.list()) == 20, "nothing was started"
    assert [batch["id"] for batch in server("GET", "/batches").json()] in ([], ["same"])


def with_filter(**filter: Any) -> dict[str, Any]:
    return {"action": "kill", "filter": filter}


# -- batches over HTTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (with_filter(), "filter"),
        ({"action": "kill"}, "filter"),
        (with_filter(servcie="Kept"), "filter.servcie"),
        (KILL | {"resaon": "typo"}, "resaon"),
        (with_filter(status=["dreaming"]), "filter.status"),
        (with_filter(status=[]), "filter.status"),
        (with_filter(service=None), "filter.service"),
        (with_filter(service=""), "filter.service"),
        (with_filter(service="a\0b"), "filter.service"),
        (with_filter(service="x" * 257), "filter.service"),
        (with_filter(service=7), "filter.service"),
        (with_filter(target="/add"), "filter.target"),
        (with_filter(ids=[]), "filter.ids"),
        (with_filter(ids=["x"] * 1_001), "filter.ids"),
        (with_filter(created_before="yesterday"), "filter.created_before"),
        (with_filter(created_after="2026-13-01T00:00:00Z"), "filter.created_after"),
        (with_filter(modified_before="2026-11-01T00:00:00"), "filter.modified_before"),
        (with_filter(modified_after="999999999999999999d"), "filter.modified_after"),
        (with_filter(created_before="1969-12-31T23:59:59Z"), "filter.created_before"),
        (with_filter(all="yes"), "filter.all"),
        (with_filter(all=False), "filter"),
        (KILL | {"action": "explode"}, "action"),
        (KILL | {"rate": -1}, "rate"),
        (KILL | {"rate": 2**64}, "rate"),
        (KILL | {"rate": 10**400}, "rate"),
        (KILL | {"rate": 1.5}, "rate"),
        (KILL | {"guard": {"max": 2**53}}, "guard.max"),
        (KILL | {"guard": {"max": 1, "expect": 1}}, "guard"),
        (KILL | {"guard": {}}, "guard"),
        (KILL | {"request_id": ""}, "request_id"),
        (KILL | {"request_id": "x" * 257}, "request_id"),
        (KILL | {"request_id": "a\nb"}, "request_id"),
        (KILL | {"deployment": "dp_1"}, "deployment"),
        (KILL | {"dry_run": "no"}, "dry_run"),
    ],
)
def test_a_batch_that_cannot_be_meant_so_is_refused_with_the_field(
    kept: Server, body: dict[str, Any], field: str | None
) -> None:
    assert_problem(kept("POST", "/batches", json=body), 400, field=field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"[]",
        b"null",
        b'"kill"',
        b"\xff\xfe",
        b'{"action": "kill", "filter": {"service": "\xff"}}',
        b'{"action": "kill", "filter": {"service": "\\ud800"}}',
        b"[" * DEEP,
        b'{"action": "kill", "filter": {"all": true}} and more',
    ],
    ids=["empty", "blank", "half", "array", "null", "text", "utf-16", "utf-8", "surrogate", "deep", "trailing"],
)
def test_a_body_that_is_no_json_object_is_refused(kept: Server, body: bytes) -> None:
    assert kept("POST", "/batches", content=body).status_code in (400, 413)


def test_a_body_that_is_too_large_is_refused(kept: Server) -> None:
    body = json.dumps(KILL | {"reason": "x" * limits.REQUEST_BYTES_MAX}).encode()
    assert_problem(kept("POST", "/batches", content=body), 413)
    with connect(kept.url) as connection:  # and before it is sent
        head = b"POST /batches HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert read_head(connection).startswith(b"HTTP/1.1 413")


def test_a_request_id_is_one_body(kept: Server) -> None:
    body = {"request_id": "same", "action": "kill", "filter": {"service": "Nobody", "created_before": "2h"}}
    assert kept("POST", "/batches", json=body).status_code == 202
    assert kept("POST", "/batches", json=body).status_code == 200, "although the age is another moment by now"
    in_another_order = json.dumps(dict(reversed(body.items())), indent=4)
    assert kept("POST", "/batches", content=in_another_order.encode()).status_code == 200
    others: list[dict[str, Any]] = [{"reason": "why"}, {"action": "cancel"}, {"filter": {"service": "Kept"}}]
    for other in others:
        assert_problem(kept("POST", "/batches", json=body | other), 409, says="another body")
    kept.finished("same")
    assert kept("POST", "/batches", json=body).status_code == 200
    flags = ("--service", "Nobody", "--created-before", "2h", "--request-id", "same", "--yes")
    assert kept.cli("invocations", "kill", *flags).returncode == 0
    done = kept.cli("invocations", "kill", *flags, "--reason", "why")
    assert done.returncode == 6
    assert "was submitted with another body" in one_sentence(done.stderr)
    kept.restart()
    assert kept("POST", "/batches", json=body).status_code == 200
    assert_problem(kept("POST", "/batches", json=body | {"dry_run": True}), 409)


def test_controls_of_no_batch_are_not_found(kept: Server) -> None:
    assert_problem(kept("GET", "/batches/nope"), 404)
    assert_problem(kept("GET", "/batches/nope/events"), 404)
    assert_problem(kept("POST", "/batches/nope/abort"), 404)
    assert_problem(kept("PATCH", "/batches/nope", json={"rate": 5}), 404)
    assert_problem(kept("PATCH", "/batches/same", json={"rate": -5}), 400, field="rate")
    assert_problem(kept("PATCH", "/batches/same", json={"rates": 5}), 400, field="rates")


# -- the rest of HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=dreaming", "status"),
        ("statuss=running", "statuss"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=%D9%A1", "limit"),
        ("cursor=mine", "cursor"),
        ("created_before=soon", "created_before"),
        ("service=a&service=b", "service"),
        ("all=1", "all"),
        ("service=%ff", None),
    ],
)
def test_a_listing_that_cannot_be_meant_so_is_refused(kept: Server, query: str, field: str | None) -> None:
    assert_problem(kept("GET", f"/invocations?{query}"), 400, field=field)


@pytest.mark.parametrize(
    "id", ["x", "inv_1", "inv_1" + "0" * 32, "inv_1" + "Z" * 33, "inv_1" + "!" * 33, "%00", "inv_1" + "%C3%A9" * 33]
)
def test_what_is_no_id_is_refused(kept: Server, id: str) -> None:
    assert_problem(kept("GET", f"/invocations/{id}"), 400, field="id")
    assert_problem(kept("PATCH", f"/invocations/{id}/kill"), 400, field="id")


def test_an_id_of_nobody_is_not_found(kept: Server) -> None:
    id = id_on(1)
    assert_problem(kept("GET", f"/invocations/{id}"), 404)
    for action in ("kill", "cancel", "pause", "resume", "purge"):
        assert_problem(kept("PATCH", f"/invocations/{id}/{action}"), 404)
    assert_problem(kept("DELETE", f"/invocations/{id}"), 404)
    assert_problem(kept("PATCH", f"/invocations/{id}/explode"), 404)


@pytest.mark.parametrize(
    ("path", "with_", "status", "field"),
    [
        ("S/h/send", {"content": b"x" * (limits.RECORD_BYTES_MAX + 1)}, 413, None),
        ("S/h/send", {"content": b"x" * limits.RECORD_BYTES_MAX}, 413, None),
        ("S/h/send", {"headers": {"x-note": "n" * 60_000}, "content": b"x" * 480_000}, 413, None),
        ("S/h/send?delay=soon", {}, 400, "delay"),
        ("S/h/send?delay=-1s", {}, 400, "delay"),
        ("S/h/send?delay=9000y", {}, 400, "delay"),
        ("S/h/send?delay=999999999999999999d", {}, 400, "delay"),
        ("S/h/send?dealy=1h", {}, 400, "dealy"),
        ("S/h/send", {"headers": {"idempotency-key": "k" * 1_025}}, 400, "idempotency-key"),
        ("S/h/send", {"headers": {"idempotency-key": ""}}, 400, "idempotency-key"),
        (f"{'x' * 257}/h/send", {}, 400, "service"),
        (f"S/{'x' * 1_025}/h/send", {}, 400, "key"),
        ("S/%00/send", {}, 400, "handler"),
        ("S/%ff/send", {}, 400, None),
        ("S//h/send", {}, 400, None),
        ("S/send", {}, 404, None),
        ("S/k/h/more/send", {}, 404, None),
        ("S/h/call", {}, 404, None),
    ],
)
def test_a_send_that_cannot_be_meant_so_starts_nothing(
    kept: Server, path: str, with_: dict[str, Any], status: int, field: str | None
) -> None:
    assert_problem(kept("POST", f"/services/{path}", **with_), status, field=field)


def test_what_is_no_http_ends_its_connection_and_nothing_else(kept: Server) -> None:
    bad_length = b"POST /batches HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
    for text in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", bad_length):
        with connect(kept.url) as connection:
            connection.sendall(text)
            head = read_head(connection)
            assert head == b"" or head.startswith(b"HTTP/1.1 400")
    assert kept("GET", "/health").status_code == 200


# -- the command line ----------------------------------------------------------------------------------------


def one_sentence(stderr: str) -> str:
    """What a command says for itself."""
    assert stderr.startswith("Error: "), stderr
    assert stderr.count("\n") == 1, stderr
    return stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("kill", "--yes"), 2, "--all"),
        (("kill", "Kept", "Others", "--yes"), 2, "one target"),
        (("kill", "Kept", "--status", "dreaming", "--yes"), 2, "dreaming"),
        (("kill", "Kept", "--created-before", "yesterday", "--yes"), 2, "yesterday"),
        (("kill", "Kept/", "--yes"), 2, "Kept/"),
        (("kill", "Kept", "--expect", "1", "--max", "1", "--yes"), 2, "max or expect"),
        (("kill", *(f"inv_1{n:033}" for n in range(1_001)), "--yes"), 2, "1 to 1000"),
        (("kill", "inv_nope"), 2, "not an invocation id"),
        (("kill", "inv_1" + "0" * 33), 5, "not there"),
        (("describe", "inv_1" + "0" * 33), 5, "not there"),
        (("start", "Kept"), 2, "names no handler"),
        (("start", "Kept/run", "--input", "{"), 2, "--input"),
        (("start", "Kept/run", "--delay", "soon"), 2, "soon"),
        (("list", "--status", "dreaming"), 2, "dreaming"),
    ],
)
def test_a_command_that_cannot_be_meant_so_ends_with_a_code_and_a_sentence(
    kept: Server, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = kept.cli("invocations", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in one_sentence(done.stderr)


def test_a_batch_of_nobody_is_not_found(kept: Server) -> None:
    for verb in (("get",), ("watch",), ("abort",)):
        done = kept.cli("batches", *verb, "nope")
        assert (done.returncode, done.stdout) == (5, "")
        one_sentence(done.stderr)


def test_where_nobody_listens_the_code_is_4(kept: Server) -> None:
    nowhere = Cli(kept.data.parent, f"http://127.0.0.1:{free_port()}")
    for arguments in (("invocations", "list"), ("invocations", "kill", "Kept", "--yes"), ("partitions",)):
        done = nowhere(*arguments)
        assert (done.returncode, done.stdout) == (4, "")
        assert "no server answers at" in one_sentence(done.stderr)
    assert Cli(kept.data.parent, "nonsense")("partitions").returncode == 2


# -- the server's own flags ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--partitions", "5"), 2, "another number of partitions"),
        (("--partitions", "257"), 2, "1 to 256"),
        (("--partitions", "4"), 6, "stop it"),
        ((), 6, "stop it"),
        (("--listen", "nonsense"), 2, "HOST:PORT"),
        (("--listen", "127.0.0.1:70000"), 2, "HOST:PORT"),
        (("--listen", "127.0.0.1:x"), 2, "HOST:PORT"),
    ],
)
def test_data_has_one_server_and_one_number_of_partitions(
    kept: Server, flags: tuple[str, ...], code: int, says: str
) -> None:
    if says == "another number of partitions":
        kept.stop()
    listen = () if "--listen" in flags else ("--listen", f"127.0.0.1:{free_port()}")
    done = kept.cli("serve", "--data", str(kept.data), *flags, *listen)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in one_sentence(done.stderr)
    if kept.process is None:
        kept.start()


def test_a_port_that_is_taken_is_said_before_anything_is_made(kept: Server) -> None:
    data = kept.data.parent / "none"
    done = kept.cli("serve", "--data", str(data), "--listen", f"127.0.0.1:{kept.port}")
    assert done.returncode == 2
    assert "choose another" in one_sentence(done.stderr)
    assert not data.exists()


def test_without_data_there_is_nothing_to_check(kept: Server) -> None:
    done = kept.cli("check", "--data", str(kept.data.parent / "none"))
    assert done.returncode == 2
    assert "there is no log" in one_sentence(done.stderr)
