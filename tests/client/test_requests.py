"""What the client asks for, as the API writes it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from coordinator import Filter, cancel, count, kill, pause, purge, restart_as_new, resume
from coordinator.client.requests import named
from coordinator.model.errors import CallerError
from coordinator.model.times import parse_duration


def test_a_filter_says_only_what_restricts() -> None:
    assert Filter(service="Greeter").to_json() == {"service": "Greeter"}
    assert Filter(all=True).to_json() == {"all": True}
    assert Filter().to_json() == {}


def test_statuses_are_a_name_or_several_and_always_in_the_same_order() -> None:
    assert Filter(status="running").to_json() == {"status": ["running"]}
    assert Filter(status={"suspended", "paused", "running"}).to_json() == {"status": ["paused", "running", "suspended"]}


def test_times_are_passed_on_as_typed_and_datetimes_written_in_utc() -> None:
    two_hours_east = datetime(2026, 11, 21, 11, 30, tzinfo=timezone(timedelta(hours=2)))
    filter = Filter(created_before="2h", created_after=two_hours_east)
    assert filter.to_json() == {"created_before": "2h", "created_after": "2026-11-21T09:30:00.000000Z"}


def test_a_datetime_without_a_time_zone_is_refused() -> None:
    with pytest.raises(CallerError, match="created_before needs a time zone"):
        Filter(created_before=datetime.fromtimestamp(0, UTC).replace(tzinfo=None)).to_json()


def test_in_a_query_several_values_are_several_parameters() -> None:
    filter = Filter(service="Greeter", status=["paused", "running"], all=True)
    assert filter.to_query() == [("service", "Greeter"), ("status", "paused"), ("status", "running"), ("all", "true")]


@pytest.mark.parametrize(
    ("build", "action"),
    [
        (cancel, "cancel"),
        (kill, "kill"),
        (pause, "pause"),
        (resume, "resume"),
        (purge, "purge"),
        (restart_as_new, "restart-as-new"),
        (count, "count"),
    ],
)
def test_each_action_has_its_constructor(build: object, action: str) -> None:
    assert callable(build)
    request = build(Filter(service="Greeter"), reason="bad deploy")
    assert request.to_json() == {"action": action, "filter": {"service": "Greeter"}, "reason": "bad deploy"}


def test_options_of_a_batch_stand_where_the_api_wants_them() -> None:
    request = resume(Filter(all=True), deployment="dp_2", request_id="r1", max=5, rate=10, dry_run=True)
    assert request.to_json() == {
        "action": "resume",
        "filter": {"all": True},
        "request_id": "r1",
        "guard": {"max": 5},
        "rate": 10,
        "deployment": "dp_2",
        "dry_run": True,
    }
    assert kill(Filter(all=True), expect=0).to_json()["guard"] == {"expect": 0}


def test_a_request_without_an_id_gets_one_and_one_with_keeps_it() -> None:
    first, second = (named(kill(Filter(all=True))) for _ in range(2))
    assert first.request_id != second.request_id
    assert str(first.request_id).startswith("kill-")
    assert named(first) == first


def test_importing_the_package_does_not_import_http() -> None:
    code = "import sys, coordinator; print('httpx' in sys.modules, 'msgspec' in sys.modules); coordinator.Client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_package_has_nothing_else() -> None:
    import coordinator

    with pytest.raises(AttributeError, match="no attribute 'Clent'"):
        _ = coordinator.Clent  # type: ignore[attr-defined]


@pytest.mark.parametrize("grace", ["30s", timedelta(seconds=30)])
def test_a_cancel_may_have_a_grace(grace: str | timedelta) -> None:
    said = cancel(Filter(all=True), grace=grace).to_json()["grace"]
    assert parse_duration(said) == 30_000_000
