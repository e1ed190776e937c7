"""What was found, as lines of the table; each says by itself whether it holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.client import Progress
from coordinator.demo.audit import Findings, audit
from coordinator.demo.cost import Cost, Latency, between, cost
from coordinator.demo.evidence import Before, Order, Part
from coordinator.demo.report import Line
from coordinator.demo.traffic import Sent
from coordinator.logs.port import ReadableLog
from coordinator.runtime.check import check
from coordinator.runtime.layout import DataDirectory


@dataclass(frozen=True)
class Swept:
    """What whoever gave the command has seen of it."""

    order: Order
    progress: Progress
    before: Sequence[Before]
    """The stores just before it."""
    baseline: tuple[int, int]
    """From when to when the live commands had the server to themselves."""
    sent: Sequence[Sent]


def judge(log: ReadableLog, stores: Sequence[Path], swept: Swept) -> list[Line]:
    """Scan the log and the stores of the partitions, of a system that has come to rest."""
    parts = [Part(log, number, swept.order, one) for number, one in enumerate(swept.before)]
    found = audit(log, stores, parts, swept.order, swept.sent)
    spent = cost(log, parts, swept.order)
    return [*_effect(swept, found, spent), *_price(swept, found, spent)]


def replayed(log: ReadableLog, directories: Sequence[DataDirectory]) -> Line:
    """The line on whether all stores in these directories equal the log, by a replay of the whole log."""
    found = [one for directory in directories for one in check(directory, log)]
    equal = not any(one.differences for one in found)
    facts = f"{sum(one.rows for one in found):,} facts"
    if len(directories) > 1:
        facts += f" in {len(directories)} directories"
    return Line("stores equal the log", "yes" if equal else "no", f"{facts} compared with a replay", equal)


def _effect(swept: Swept, found: Findings, spent: Cost) -> list[Line]:
    """What it did."""
    progress = swept.progress
    errors = Counter(one.error for one in swept.sent if one.error)
    why = "".join(f", most often: {error}" for error, _ in errors.most_common(1))
    whole = progress.state == "completed" and progress.settled
    counted = found.not_understood == 0 and found.filter_as_given
    agree = progress.matched == found.matched == found.by_status.total() > 0
    return [
        Line("matched", f"{progress.matched:,}", f"counted by hand: {found.matched:,}", agree and counted),
        *(
            Line(f"  {status} before", f"{found.by_status[status]:,}", "from a scan of the stores and the log since")
            for status in swept.order.statuses
        ),
        Line(
            "ended",
            f"{progress.ended:,}",
            f"the batch is {progress.state}",
            whole and progress.ended == found.matched,
        ),
        Line(
            "acknowledged before, alive",
            f"{found.survivors + found.live_lost:,}",
            f"of {found.matched:,} matching, {found.live_matched:,} of them live commands",
            found.survivors + found.live_lost == 0,
        ),
        Line(
            "in scope, started after",
            f"{found.started:,}",
            f"of {found.came_due:,} that came due since, {spent.came_due:,} of them while it was worked off; "
            f"{found.others_started:,} others were started",
            found.started == 0 and found.came_due > 0 and found.others_started > 0,
        ),
        Line(
            "not in scope, touched",
            f"{found.touched:,}",
            f"of the same service {found.sent_after:,} were sent after the answer",
            found.touched == 0 and found.sent_after > 0,
        ),
        Line("live commands refused", f"{errors.total():,}", f"of {len(swept.sent):,}{why}", not errors),
    ]


def _price(swept: Swept, found: Findings, spent: Cost) -> list[Line]:
    """What it took."""
    began = swept.order.submitted_at
    idle = Latency.of(between(swept.sent, *swept.baseline))
    during = Latency.of(between(swept.sent, began, spent.completed_at))
    batch_s = (spent.completed_at - began) / 1e6
    written = spent.entries.total()
    return [
        Line(
            "in force after",
            f"{spent.in_force_us / 1e3:.0f} ms",
            f"HTTP request to the last partition's word that it has applied it; on its log after "
            f"{spent.on_log_us / 1e3:.0f} ms",
            spent.in_force_us > 0,
        ),
        Line("worked off after", f"{batch_s * 1e3:,.0f} ms", f"{found.matched / batch_s:,.0f} a second"),
        _latency("live latency before", idle),
        _latency("live latency during", during),
        Line(
            "log entries for the batch",
            f"{written:,}",
            f"one per invocation: {found.matched:,}; these are {_listed(spent.entries)}",
            written < found.matched,
        ),
        Line(
            "and for their callers",
            f"{spent.callers_told:,}",
            "each is told that what it called was killed; the same if killed one by one",
        ),
    ]


def _latency(name: str, latency: Latency) -> Line:
    value = f"{latency.p50:.1f} / {latency.p99:.1f} ms"
    return Line(name, value, f"p50 / p99 of {latency.number:,} commands", latency.number > 0)


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counter.items() if number)
