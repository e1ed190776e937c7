"""What is said of how far things are, and of what does not hold."""

import io

import pytest
from rich.console import Console

from coordinator.demo import report
from coordinator.demo.report import Drawing, Line, Plain, TimeLeft

LINES = [Line("matched", "12", "by hand: 12", True), Line("alive", "3", "of 12", False), Line("took", "5 ms")]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_what_the_rest_takes_at_this_rate() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    assert left.text(0.0) == "? s left"
    clock.now += 2.0
    assert left.text(0.25) == "6.0 s left"
    assert left.text(0.01) == "198 s left"
    assert left.text(1.0) == "took 2.0 s"


def test_plain_lines_mark_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    Plain().table(LINES)
    assert capsys.readouterr().out.splitlines() == [
        "   ok      matched    12  by hand: 12",
        "   FAILED  alive       3  of 12",
        "           took     5 ms",
    ]


def test_a_terminal_shows_the_same() -> None:
    out = io.StringIO()
    Drawing(Console(file=out, width=80)).table(LINES)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["ok", "matched", "12", "by", "hand:", "12"],
        ["FAILED", "alive", "3", "of", "12"],
        ["took", "5", "ms"],
    ]


def test_a_plain_bar_is_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(report.time, "monotonic", clock)
    bar = Plain().bar("killing")
    for step in range(21):
        bar.show(step / 20, f"{step} ended")
        clock.now += 0.1
    shown = capsys.readouterr().out.splitlines()
    assert 3 <= len(shown) <= 5
    assert shown[-1].startswith("   killing [########################] 100%  20 ended, took ")
