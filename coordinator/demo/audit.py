"""What the command did, counted by scanning the log and the stores.

Nothing here believes a counter of the system. Which invocations were in scope comes from the records in front of the
command, twice: from the beginning of the log, and from a scan of the stores just before it with the records since.
What became of them stands in the stores; whether one was started afterwards, on `deliveries`. What the process beside
it has noted of its sends is held against both.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.demo.evidence import Order, Part, records
from coordinator.demo.traffic import GREETER, Sent
from coordinator.logs.port import ReadableLog, Stream
from coordinator.model import messages
from coordinator.model.filters import EMPTY, Filter
from coordinator.model.invocation import outcome_name, status_name
from coordinator.stores.reader import StoreReader


@dataclass
class Findings:
    """What was found; all counts are over all partitions."""

    matched: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    """From the scan of the stores before the command and what came in between."""
    live_matched: int = 0
    """Those of them that had come as live commands."""
    survivors: int = 0
    came_due: int = 0
    """In scope, and would have gone on by the end of the log, had nobody ended them."""
    started: int = 0
    """In scope, and given to the participant after the command all the same."""
    others_started: int = 0
    """Of the same service, not in scope, and given to the participant after the command."""
    touched: int = 0
    """Not in scope, and killed or stamped by the batch all the same."""
    live_lost: int = 0
    """Acknowledged before the command and not in front of it, or certainly in scope and not found to be."""
    sent_after: int = 0
    """Acknowledged sends that left after the command's answer."""
    not_understood: int = 0
    filter_as_given: bool = True


def audit(
    log: ReadableLog, stores: Sequence[Path], parts: Sequence[Part], order: Order, sent: Sequence[Sent]
) -> Findings:
    """Everything at once; the system must have come to rest."""
    findings = Findings()
    for number, (store, part) in enumerate(zip(stores, parts, strict=True)):
        _scope(findings, part, order)
        _rows(findings, store, part)
        _deliveries(findings, log, number, part, order)
    _live(findings, parts, order, sent)
    return findings


def _scope(findings: Findings, part: Part, order: Order) -> None:
    """How much the command meant, and whether it stands on the log as it was given."""
    meant = Filter(service=order.service, status=order.statuses, created_before=part.cutoff)
    in_time = order.submitted_at - order.age_us <= part.cutoff <= order.answered_at - order.age_us
    findings.filter_as_given &= part.command.filter == meant and in_time and part.command.action == "kill"
    findings.matched += len(part.scope)
    findings.by_status += Counter(part.scope_by_scan.values())
    findings.live_matched += len(part.scope.keys() & part.ledger.invoked)
    findings.came_due += len(part.came_due)
    findings.not_understood += part.ledger.not_understood


def _rows(findings: Findings, store: Path, part: Part) -> None:
    """What has become of every row."""
    killed = 0
    reader = StoreReader(store)
    try:
        for row in reader.rows(EMPTY, after=None, limit=None):
            ended = status_name(row) == "completed" and outcome_name(row) == "killed"
            if row.id in part.scope:
                killed += ended
            elif ended or row.batch == part.position:
                findings.touched += 1
    finally:
        reader.close()
    findings.survivors += len(part.scope) - killed


def _deliveries(findings: Findings, log: ReadableLog, number: int, part: Part, order: Order) -> None:
    """Whether the participant was given what the command had ended, and that it was given others."""
    for record in records(log, Stream.DELIVERIES, number):
        delivery = messages.decode_delivery(record.value)
        if not isinstance(delivery, messages.Start):
            continue
        if delivery.id in part.scope:
            # A suspended one had an attempt before the command, and that may be on the log more than once.
            findings.started += delivery.attempt > part.ledger.over.get(delivery.id, 0)
        elif delivery.service == order.service:
            findings.others_started += record.appended_at > part.appended_at


def _live(findings: Findings, parts: Sequence[Part], order: Order, sent: Sequence[Sent]) -> None:
    known = {id for part in parts for id in part.ledger.status}
    scope = {id for part in parts for id in part.scope}
    last = max(part.appended_at for part in parts)
    cutoff = order.submitted_at - order.age_us
    for one in sent:
        if not one.id or one.target != GREETER:
            continue
        if one.answered_at < order.submitted_at and one.id not in known:
            findings.live_lost += 1
        # Acknowledged so early and due so late, it is in scope in whatever order the rest was done.
        certain = one.answered_at < cutoff and one.sent_at + one.delay_ms * 1_000 > last
        if certain and one.id not in scope:
            findings.live_lost += 1
        if one.sent_at > order.answered_at:
            findings.sent_after += 1
            findings.touched += one.id in scope
