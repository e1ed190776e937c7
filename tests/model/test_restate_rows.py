"""Rows of a real server, of every status, and the lines that are none."""

import gzip
import json
from collections import Counter
from typing import Any

import pytest

from coordinator.examples import restate_rows
from coordinator.model.errors import CallerError
from coordinator.model.ids import derived_id
from coordinator.model.limits import DAY_US, FAILURE_CHARS_MAX, HOUR_US, RETENTION_DEFAULT_US
from coordinator.model.messages import Import
from coordinator.model.restate_rows import modified_at, parse_row, rebase, rebase_line

AT = 1_795_233_040_712_000
"""2026-11-21T03:50:40.712Z"""


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    with restate_rows().open("rb") as packed, gzip.open(packed) as file:
        return list(file)


@pytest.fixture(scope="module")
def messages(lines: list[bytes]) -> list[Import]:
    return [parse_row(line) for line in lines]


def row(**columns: Any) -> dict[str, Any]:
    """A plain row; None leaves a column out."""
    plain = {
        "id": derived_id("row", 0, columns.get("target_service_key")),
        "status": "suspended",
        "target_service_name": "Greeter",
        "target_handler_name": "greet",
        "target_service_ty": "service",
        "created_at": "2026-11-21T03:50:40.712Z",
        "modified_at": "2026-11-21T03:50:40.712Z",
    }
    return {name: value for name, value in (plain | columns).items() if value is not None}


def parsed(**columns: Any) -> Import:
    return parse_row(json.dumps(row(**columns)).encode())


# -- the real file -------------------------------------------------------------------------------------------


def test_every_row_of_a_real_server_is_read_with_its_status(messages: list[Import]) -> None:
    assert Counter((message.service, message.status) for message in messages) == {
        ("Greeter", "scheduled"): 4000,
        ("Greeter", "suspended"): 4000,
        ("Greeter", "completed"): 3500,
        ("CartObject", "pending"): 2700,
        ("CartObject", "suspended"): 800,
        ("Tree", "suspended"): 500,
        ("OrderWorkflow", "suspended"): 500,
        ("PaymentService", "backing-off"): 400,
        ("PaymentService", "completed"): 400,
        ("PaymentService", "paused"): 200,
    }


def test_only_completed_rows_have_an_outcome(messages: list[Import]) -> None:
    outcomes = Counter((message.status, message.outcome) for message in messages if message.outcome)
    assert outcomes == {("completed", "success"): 3500, ("completed", "failure"): 400}
    assert all(message.completed_at for message in messages if message.status == "completed")


def test_what_waits_for_a_time_knows_it(messages: list[Import]) -> None:
    due = Counter(message.status for message in messages if message.due_at is not None)
    assert due == {"scheduled": 4000, "backing-off": 400}


def test_call_trees_keep_their_parents_and_queues_their_order(messages: list[Import]) -> None:
    assert sum(message.parent is not None for message in messages) == 2000
    assert not any(message.detached for message in messages)
    assert sum(message.inboxed_at is not None for message in messages) == 2700


def test_retries_keep_their_count_reason_and_deployment(messages: list[Import]) -> None:
    retried = [message for message in messages if message.status in ("backing-off", "paused")]
    assert all(message.retry > 0 and message.deployment for message in retried)
    assert all("card processor unreachable" in (message.last_failure or "") for message in retried)


# -- single columns ------------------------------------------------------------------------------------------


def test_a_pending_row_of_a_virtual_object() -> None:
    message = parsed(
        status="pending",
        target_service_name="CartObject",
        target_service_ty="virtual_object",
        target_service_key="cart85",
        target_handler_name="add",
        inboxed_at="2026-11-21T03:50:41.712Z",
        idempotency_key="01M7Y3",
        completion_retention="PT3600S",
    )
    assert message == Import(
        id=derived_id("row", 0, "cart85"),
        service="CartObject",
        handler="add",
        key="cart85",
        type=1,
        status="pending",
        created_at=AT,
        modified_at=AT,
        inboxed_at=AT + 1_000_000,
        idempotency_key="01M7Y3",
        retention=HOUR_US,
    )


def test_a_column_that_is_null_counts_as_left_out() -> None:
    assert parse_row(json.dumps({**row(), "idempotency_key": None, "retry_count": None}).encode()) == parsed()


def test_unknown_columns_are_ignored() -> None:
    assert parsed(journal_size=2, something_new={"deep": [1]}) == parsed()


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (None, RETENTION_DEFAULT_US),
        ("PT86400S", DAY_US),
        ("P7D", 7 * DAY_US),
        ("P1DT1H", DAY_US + HOUR_US),
        ("PT0S", 0),
        ("P999999D", 36_500 * DAY_US),
    ],
)
def test_retention_is_an_iso_duration_and_a_day_by_default(retention: str | None, expected: int) -> None:
    assert parsed(completion_retention=retention).retention == expected


def test_the_pinned_deployment_comes_before_that_of_the_last_attempt() -> None:
    assert parsed(pinned_deployment_id="dp_1", last_attempt_deployment_id="dp_2").deployment == "dp_1"
    assert parsed(last_attempt_deployment_id="dp_2").deployment == "dp_2"
    assert parsed().deployment is None


def test_a_scheduled_start_makes_a_child_detached_and_is_kept() -> None:
    later = "2026-11-21T03:50:41.712Z"
    message = parsed(status="scheduled", scheduled_start_at=later, invoked_by_id=derived_id("parent", 0, None))
    assert (message.detached, message.due_at, message.scheduled_at) == (True, AT + 1_000_000, AT + 1_000_000)
    assert not parsed(status="scheduled", scheduled_start_at=later).detached
    assert not parsed(invoked_by_id=derived_id("parent", 0, None)).detached


def test_a_retry_time_counts_only_while_backing_off() -> None:
    later = "2026-11-21T03:50:41.712Z"
    assert parsed(status="backing-off", next_retry_at=later).due_at == AT + 1_000_000
    assert parsed(status="paused", next_retry_at=later).due_at is None


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        ("[409] canceled", "cancelled"),
        ("[409 Aborted] Cancelled", "cancelled"),
        ("[409] killed", "killed"),
        ("[409] cancelled by the customer", "failure"),
        ("[500] killed", "failure"),
        ("[500] no such charge", "failure"),
        (None, "failure"),
    ],
)
def test_a_failure_with_restates_own_word_was_an_operators_doing(failure: str | None, outcome: str) -> None:
    message = parsed(status="completed", completion_result="failure", completion_failure=failure)
    assert (message.outcome, message.last_failure) == (outcome, failure)


def test_a_long_failure_is_cut() -> None:
    assert len(parsed(last_failure="x" * 2 * FAILURE_CHARS_MAX).last_failure or "") == FAILURE_CHARS_MAX


# -- bad lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"id": "\xff"}', "not JSON"),
        (b'{"x":' * 100_000, "not JSON"),
        (b"[]", "not a row of sys_invocation: Expected `object`"),
        (b"{}", "missing required field `id`"),
    ],
)
def test_a_line_that_is_no_row_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(CallerError, match=reason):
        parse_row(line)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"status": "sleeping"}, "'sleeping' is none of scheduled, pending"),
        ({"target_service_ty": "cron"}, "'cron' is none of service, virtual_object, workflow"),
        ({"target_service_ty": "virtual_object"}, "that has no key"),
        ({"target_service_key": "k"}, "a service that has a key"),
        ({"status": "pending"}, "waits for its key"),
        ({"status": "completed"}, "has a completion_result"),
        ({"status": "completed", "completion_result": "maybe"}, "has a completion_result"),
        ({"id": "inv_1"}, "not an invocation id"),
        ({"invoked_by_id": "someone"}, "not an invocation id"),
        ({"created_at": "yesterday"}, r"at `\$.created_at`"),
        ({"created_at": "2026-11-21T03:50:40"}, "timezone"),
        ({"created_at": None}, "missing required field `created_at`"),
        ({"completion_retention": "1 day"}, r"at `\$.completion_retention`"),
        ({"retry_count": -1}, r"at `\$.retry_count`"),
        ({"retry_count": 2**40}, r"at `\$.retry_count`"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_the_reason(columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallerError, match=reason):
        parsed(**columns)


def test_an_id_must_carry_the_partition_key_of_its_key() -> None:
    columns = {"target_service_ty": "workflow", "target_service_key": "k", "id": derived_id("row", 0, "other")}
    with pytest.raises(CallerError, match="partition key of its key 'k'"):
        parsed(**columns)


# -- other times ---------------------------------------------------------------------------------------------


def test_moving_the_lines_and_moving_the_messages_is_the_same(lines: list[bytes], messages: list[Import]) -> None:
    some = slice(None, None, 37)
    moved = [parse_row(rebase_line(line, DAY_US + 1)) for line in lines[some]]
    assert moved == [rebase(message, DAY_US + 1) for message in messages[some]]
    assert all(new.created_at - old.created_at == DAY_US + 1 for new, old in zip(moved, messages[some], strict=True))


def test_moving_keeps_the_columns_that_are_no_times() -> None:
    before = row(journal_size=2, target_handler_name="größe")
    after = json.loads(rebase_line(json.dumps(before).encode(), 1))
    times = {"created_at": "2026-11-21T03:50:40.712001Z", "modified_at": "2026-11-21T03:50:40.712001Z"}
    assert after == before | times


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"created_at": "yesterday"}', b'{"created_at": "9999-12-31T00:00:00Z"}']
)
def test_what_cannot_be_moved_is_left_for_the_import_to_refuse(line: bytes) -> None:
    assert rebase_line(line, 10 * DAY_US) == line


def test_the_time_of_the_last_change_is_read_without_reading_the_row() -> None:
    assert modified_at(b'{"modified_at": "2026-11-21T03:50:40.712Z"}') == AT
    assert modified_at(b"{}") is None
    assert modified_at(b"{") is None
