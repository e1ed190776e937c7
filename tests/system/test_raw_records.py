"""What other producers may put on the log: the test owns the log while the server is down, and appends."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgpack
import msgspec

from coordinator.logs.port import Entry, Stream
from coordinator.model import limits, messages
from coordinator.model.filters import Filter
from coordinator.runtime.layout import DataDirectory
from tests.http.surface import assert_problem
from tests.system import evidence
from tests.system.rows import id_of_key, id_on, lines, row
from tests.system.server import Server, eventually

NEWER = limits.SCHEMA_LEVEL + 1
SOON = time.time_ns() // 1_000 + limits.DAY_US


def append(data: Path, values: Mapping[int, list[bytes]], stream: Stream = Stream.COMMANDS) -> None:
    """Append to these partitions; the server must not run."""
    log = DataDirectory(data).open_log(None)
    try:
        log.append([Entry(stream, partition, value) for partition, some in values.items() for value in some])
    finally:
        log.close()


def packed(kind: int, **fields: object) -> bytes:
    return bytes(msgpack.packb({"kind": kind, "v": 1, **fields}))


def invoke(id: str, **fields: object) -> bytes:
    return packed(1, id=id, service="Raw", handler="run", **fields)


def batch(request: str, filter: Filter, **fields: object) -> bytes:
    made = messages.Batch(request=request, action="kill", filter=filter, not_after=SOON)
    return messages.encode(msgspec.structs.replace(made, **fields))


HERE = id_on(0)
UNREADABLE = {
    b"": "not a message",
    b"\xc1": "not a message",
    b"no msgpack at all": "not a message",
    b"\x81\xa4kind\x01": "not a message",
    b"\x82\xa4kind\x01\xa1v": "not a message",
    bytes(msgpack.packb(["kind", 1, "v", 1])): "not a message",
    bytes(msgpack.packb({"kind": "1", "v": 1})): "not a message",
    bytes(msgpack.packb({"v": 1, "id": HERE})): "not a message",
    b"\x91" * 100_000: "not a message",
    b"\xdf\xff\xff\xff\xff": "not a message",
    b"\x00" * (limits.RECORD_BYTES_MAX + 1): f"may have {limits.RECORD_BYTES_MAX}",
    invoke(HERE) + b"\x00" * limits.RECORD_BYTES_MAX: f"may have {limits.RECORD_BYTES_MAX}",
    invoke(HERE).replace(b"\xa3Raw", b"\xa3R\xff\xfe"): "kind 1 as",
    invoke(HERE, note="unknown field"): "kind 1 as",
    invoke(HERE, due_at=2**63): "kind 1 as",
    invoke(HERE, due_at=2**64 - 1): "kind 1 as",
    invoke(HERE, due_at=-(2**63)): "kind 1 as",
    invoke(HERE, retention=1e300): "kind 1 as",
    invoke(HERE, type=-1): "kind 1 as",
    invoke(HERE, input="text, no bytes"): "kind 1 as",
    packed(1, id=HERE, service="Raw"): "kind 1 as",
    packed(999): "kind 999 as",
    packed(0): "kind 0 as",
    packed(-1): "kind -1 as",
    packed(32, request="r", action="kill", filter={}): "kind 32 as",
    bytes(msgpack.packb({"kind": 1, "v": NEWER, "id": HERE, "service": "Raw", "handler": "run"})): f"version {NEWER}",
    bytes(msgpack.packb({"kind": 77, "v": NEWER, "what": "nobody knows"})): f"version {NEWER}",
}
REFUSED = {
    invoke("no id"): "not an invocation id",
    invoke(id_on(1)): "does not belong to partition 0",
    invoke(HERE, key="k"): "has no key",
    invoke(HERE, type=7, key="k"): "has no key",
    packed(1, id=HERE, service="", handler="run"): "1 to 256",
    packed(1, id=HERE, service="x" * 257, handler="run"): "1 to 256",
    packed(4, id=HERE, action="explode"): "explode",
    packed(14, id=HERE, attempt=1, outcome="killed"): "none that a participant reports",
    packed(15, id=HERE, attempt=1, first=0, steps=[{"kind": 1, "call": {"service": "S", "handler": "h"}}] * 17): (
        "may hold 16 steps"
    ),
    packed(16, parent=HERE, child=HERE, outcome="success"): "only partitions send it",
    packed(17, parent=HERE, children=[HERE], action="kill"): "only partitions send it",
    packed(18, parent=HERE, child=HERE): "only partitions send it",
    packed(17, parent=HERE, children=[HERE], action="kill", source=4, number=1): "source partition 4 does not exist",
    packed(6, request="", revision=1): "request id",
    packed(9, level=0): "cannot go back",
}


def test_what_is_no_command_becomes_a_dead_letter_and_its_partition_goes_on(alone: Server) -> None:
    alone.start().stop()
    bad = UNREADABLE | REFUSED
    good = id_on(0)
    append(alone.data, {0: [*bad, invoke(good)]})
    alone.start()
    assert alone.get(good)["status"] == "ready"
    eventually(lambda: len(evidence.dead_letters(alone.data)) >= len(bad))
    letters = {letter.position: letter for letter in evidence.dead_letters(alone.data)}
    assert len(letters) == len(bad)
    for (_, letter), (value, reason) in zip(sorted(letters.items()), bad.items(), strict=True):
        assert (letter.stream, letter.partition) == ("commands", 0)
        assert reason in letter.reason, (value[:80], letter.reason)
        assert letter.value == value[: limits.RECORD_BYTES_MAX]
    assert {one["id"] for one in alone.list()} == {good}
    # Told again at another start they would still be the same letters.
    alone.restart()
    assert {letter.position for letter in evidence.dead_letters(alone.data)} == letters.keys()
    found = alone.check()
    assert found.returncode == 0, found.stdout + found.stderr


def test_reports_and_actions_on_what_is_not_there_change_nothing(alone: Server) -> None:
    alone.start()
    [live] = [row("Raw/run", partition=0)]
    alone.import_lines(lines([live]))
    before = alone.list()
    alone.stop()
    nobody, attempt = id_on(0), itertools.count(1)
    values = [packed(kind, id=id, attempt=next(attempt)) for kind in (10, 11) for id in (nobody, live["id"])]
    values += [packed(14, id=id, attempt=2**53, outcome="success") for id in (nobody, live["id"])]
    values += [packed(4, id=nobody, action="kill"), packed(8, tick=2**53), packed(8, tick=0), packed(3)]
    values += [packed(7, request="unheard of", not_after=SOON), packed(6, request="unheard of", revision=1)]
    append(alone.data, {0: values})
    alone.start()
    assert alone.list() == before
    assert evidence.dead_letters(alone.data) == []
    assert alone.check().returncode == 0


def test_batch_commands_that_cannot_be_meant_so_touch_nothing(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines(row("Kept/run") for _ in range(20)))
    alone.stop()
    values = [
        batch("empty", Filter()),
        batch("status", Filter(status=("dreaming",))),
        batch("ids", Filter(ids=tuple(id_of_key("k") for _ in range(limits.FILTER_IDS_MAX + 1)))),
        batch("target", Filter(target="/run")),
        batch("action", Filter(all=True), action="explode"),
        batch("late", Filter(all=True), not_after=1),
        batch("", Filter(all=True)),
        batch("x" * 257, Filter(all=True)),
    ]
    append(alone.data, dict.fromkeys(range(4), values))
    alone.start()
    assert {one["status"] for one in alone.list()} == {"suspended"}
    assert alone("GET", "/batches").json() == [], "nobody has submitted them"
    assert alone.do("kill", {"service": "Kept"})["ended"] == 20
    assert alone.check().returncode == 0


# -- requests, from the contract alone -----------------------------------------------------------------------


def test_anyone_may_submit_a_batch_by_a_record(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines(row("Mine/run") for _ in range(40)))
    alone.stop()
    filter = {"service": "Mine", "status": ["suspended"]}
    submit = packed(32, request="by-record", action="kill", filter=filter, reason="raw", principal="a program")
    append(alone.data, {0: [submit, submit]}, Stream.REQUESTS)
    alone.start()
    last = alone.finished("by-record")
    assert (last["state"], last["matched"], last["ended"]) == ("completed", 40, 40)
    assert (last["reason"], last["principal"]) == ("raw", "a program")


def test_bad_requests_are_dead_letters_or_refused_and_others_go_on(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines(row("Mine/run") for _ in range(4)))
    alone.stop()
    unreadable = [
        b"\xc1",
        b"\x91" * 50_000,
        b"\x00" * (limits.REQUEST_RECORD_BYTES_MAX + 1),
        packed(32, request="r"),
        packed(32, request="r", action="kill", filter={"servcie": "x"}),
        packed(32, request="r", action="kill", filter={"created_before": 2**63}),
        packed(32, request="r", action="kill", filter={"all": True}, guard={"max": -1}),
        packed(5, request="r", action="kill", filter={"all": True}, not_after=1),
        packed(999),
        bytes(msgpack.packb({"kind": 32, "v": NEWER, "request": "r", "action": "kill", "filter": {"all": True}})),
    ]
    refused = {
        "empty": packed(32, request="empty", action="kill", filter={}),
        "action": packed(32, request="action", action="explode", filter={"all": True}),
        "status": packed(32, request="status", action="kill", filter={"status": ["dreaming"]}),
        "guard": packed(32, request="guard", action="kill", filter={"all": True}, guard={}),
    }
    nothing = [packed(35, request="nobody"), packed(34, request="nobody", commit=True), packed(33, request="nobody")]
    good = packed(32, request="good", action="kill", filter={"service": "Mine"})
    append(alone.data, {0: [*unreadable, *refused.values(), *nothing, good]}, Stream.REQUESTS)
    alone.start()
    last = alone.finished("good")
    assert (last["state"], last["ended"]) == ("completed", 4), last
    for request in refused:
        shown = alone.batch(request)
        assert (shown["state"], shown["matched"]) == ("refused", 0)
        assert shown["refusal"]
    eventually(lambda: len(evidence.dead_letters(alone.data)) >= len(unreadable))
    letters = evidence.dead_letters(alone.data)
    assert {letter.stream for letter in letters} == {"requests"}
    assert [letter.value for letter in letters] == unreadable
    assert alone("GET", "/ready").status_code == 200


# -- levels --------------------------------------------------------------------------------------------------


def test_a_level_that_this_build_does_not_know_stops_its_partition_loudly_and_no_other(alone: Server) -> None:
    alone.start()
    rows = [row("Level/run", partition=n) for n in range(4)]
    alone.import_lines(lines(rows))
    alone.stop()
    after = id_on(2)
    append(alone.data, {1: [packed(9, level=limits.SCHEMA_LEVEL)], 2: [packed(9, level=NEWER), invoke(after)]})
    alone.start(until_ready=False)
    sentence = f"partition 2 was raised to schema level {NEWER}"
    eventually(lambda: stands_still(alone, sentence), says=alone.said)
    for one in alone("GET", "/partitions").json():
        assert (one["failure"] is None) == (one["partition"] != 2)
        assert (one["lag"] >= 2) == (one["partition"] == 2), "what is behind it is not applied"
    assert sentence in alone.said(), "and it is logged"
    for one in rows:
        response = alone("PATCH", f"/invocations/{one['id']}/kill")
        if one is rows[2]:
            assert_problem(response, 503, says=sentence)
            assert response.headers["retry-after"]
        else:
            assert response.status_code == 200
    assert alone.get(rows[2]["id"])["status"] == "suspended", "it can still be looked at"
    done = alone.cli("invocations", "kill", rows[2]["id"])
    assert done.returncode == 4
    assert sentence in done.stderr
    assert {alone.http.post(f"/services/Level/key{n}/run/send").status_code for n in range(40)} == {202, 503}
    # A start changes nothing about that.
    alone.stop()
    alone.start(until_ready=False)
    eventually(lambda: stands_still(alone, sentence), says=alone.said)
    found = alone.check()
    assert found.returncode == 0, found.stdout + found.stderr


def stands_still(server: Server, sentence: str) -> bool:
    """Whether /ready says so, and of nothing else."""
    try:
        response = server("GET", "/ready")
    except httpx.TransportError:
        return False
    return response.status_code == 503 and sentence in response.text and "no owner" not in response.text
