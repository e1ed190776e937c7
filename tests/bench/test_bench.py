"""Every figure runs, on numbers too small to mean anything, and its numbers arrive in the result."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bench import report, workloads
from bench.__main__ import FIGURES, main
from bench.report import TARGETS, Target
from bench.scale import SMALL
from coordinator.model import messages

REQUIRED = {
    *("sweep_ratio", "sweep_per_s", "in_force_ratio", "foreground_p50_ratio", "foreground_p99_extra_ms"),
    *("records_per_s", "records_ratio", "replay_per_s", "cancels_per_s", "rss_mb"),
    "takeover_snapshot_s",
}
BASELINES_AND_DETAILS = {
    *("sweep_bare_per_s", "in_force_ms_10k", "in_force_ms_1m", "records_bare_per_s", "append_per_s"),
    *("foreground_idle_p50_ms", "foreground_idle_p99_ms", "foreground_sweep_p50_ms", "foreground_sweep_p99_ms"),
    *("breakdown_decode_us", "breakdown_catch_up_us", "breakdown_sql_us", "breakdown_outbox_us"),
    *("takeover_log_s", "snapshot_s", "snapshot_mb", "snapshot_p99_ms", "snapshot_idle_p99_ms", "snapshot_max_ms"),
    *("cancels_ratio", "cancelled_trees_per_s", "kills_of_trees_per_s"),
    *("breakdown_commit_us", "longest_step_ms", "rss_anon_mb", *report.STEPS),
}


def test_a_small_run_measures_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results" / "latest.json"

    assert main(["--small", "--output", str(output)]) == 0

    numbers = json.loads(output.read_text())
    assert set(numbers) >= REQUIRED | BASELINES_AND_DETAILS
    assert all(type(value) in (int, float) for value in numbers.values())
    table = capsys.readouterr().out
    assert all(target.text in table for target in TARGETS)


def test_a_figure_that_does_not_exist_is_an_error_of_the_caller() -> None:
    with pytest.raises(SystemExit):
        main(["--small", "no-such-figure"])


def test_the_required_figures_are_what_the_table_shows() -> None:
    assert {target.key for target in TARGETS} == REQUIRED | {"longest_step_ms"}
    assert "sweep" in FIGURES


def test_a_figure_that_falls_short_is_said_to() -> None:
    fast = Target("fast", "fast", least=100.0, aim=200.0)
    small = Target("small", "small", most=1.5, unit="x")

    assert report.verdict(fast, 99.0) == "falls short of at least 100"
    assert report.verdict(fast, 100.0) == "at least 100; short of the aim of 200"
    assert report.verdict(fast, 200.0) == "at least 100"
    assert report.verdict(small, 1.5) == "at most 1.50x"
    assert report.verdict(small, 1.51) == "falls short of at most 1.50x"


def test_the_same_seed_gives_the_same_records() -> None:
    assert workloads.mixed(SMALL.mixed) == workloads.mixed(SMALL.mixed)
    assert workloads.mixed(SMALL.mixed) != workloads.mixed(SMALL.mixed, round=1)
    assert workloads.scheduled(10) == workloads.scheduled(10)


def test_the_mixed_workload_has_three_reports_for_each_invocation() -> None:
    kinds = Counter(type(messages.decode_command(record)) for record in workloads.mixed(2_000))

    reports = sum(count for kind, count in kinds.items() if issubclass(kind, messages.Report))
    assert kinds[messages.Invoke] == 2_000
    assert 2.9 < reports / kinds[messages.Invoke] < 3.1


def test_a_busy_machine_is_said_to_be_one() -> None:
    assert "say little" not in report.show({"busy_elsewhere_cores": 0.1})
    assert "kept 1.4 cores busy" in report.show({"busy_elsewhere_cores": 1.4})
