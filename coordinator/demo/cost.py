"""What the command took: until it was in force, of the live traffic's time, and of the log."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from coordinator.demo.evidence import Order, Part, records
from coordinator.demo.traffic import Sent
from coordinator.logs.port import ReadableLog, Stream
from coordinator.model import messages
from coordinator.model.errors import CorruptionError


@dataclass
class Cost:
    """Over all partitions."""

    on_log_us: int = 0
    """From the HTTP request until the command was appended to the last partition's log."""
    in_force_us: int = 0
    """From the HTTP request until the last partition had applied it and had said so on the log."""
    completed_at: int = 0
    """When the last partition's word of its completion was appended."""
    entries: Counter[str] = field(default_factory=Counter)
    """Log entries written for the batch itself, by what they are."""
    callers_told: int = 0
    """Log entries that ending the same invocations one by one would have written as well."""
    came_due: int = 0
    """In scope, and would have gone on before their partition had worked off the batch, had nobody ended them."""


def cost(log: ReadableLog, parts: Sequence[Part], order: Order) -> Cost:
    """Everything at once; the system must have come to rest."""
    found = Cost(on_log_us=max(part.appended_at for part in parts) - order.submitted_at)
    for record in records(log, Stream.REQUESTS, 0):
        found.entries["request"] += getattr(messages.decode_request(record.value), "request", None) == order.request
    over_at = _progress(found, log, len(parts), order)
    _commands(found, parts, over_at, order)
    return found


def _progress(found: Cost, log: ReadableLog, partitions: int, order: Order) -> list[int]:
    """By partition, the append time of the record with which it was over."""
    applied: dict[int, int] = {}
    over_at: dict[int, int] = {}
    for record in records(log, Stream.PROGRESS, 0):
        told = messages.decode_progress(record.value)
        if told.request != order.request:
            continue
        found.entries["progress"] += 1
        if isinstance(told, messages.Progress):
            applied.setdefault(told.partition, record.appended_at)
            if told.state == "completed":
                over_at.setdefault(told.partition, told.at)
                found.completed_at = max(found.completed_at, record.appended_at)
    if len(over_at) < partitions:
        raise CorruptionError("not every partition has said on the log that it is done with the batch")
    found.in_force_us = max(applied.values()) - order.submitted_at
    return [over_at[number] for number in range(partitions)]


def _commands(found: Cost, parts: Sequence[Part], over_at: Sequence[int], order: Order) -> None:
    for part, until in zip(parts, over_at, strict=True):
        found.entries["commands"] += 1
        found.came_due += sum(at <= until for at in part.came_due)
        for appended_at, command in part.behind:
            if isinstance(command, messages.Tick):
                # Ticks serve timers that come due meanwhile, too; the batch is charged with all of them.
                found.entries["ticks"] += appended_at <= until
            elif isinstance(command, messages.ChildEnded):
                found.callers_told += any(command.child in other.scope for other in parts)
            elif getattr(command, "request", None) == order.request:
                found.entries["commands"] += 1


@dataclass(frozen=True)
class Latency:
    """How long sends took; in milliseconds from the time when each was to be sent."""

    p50: float
    p99: float
    number: int

    @classmethod
    def of(cls, sent: Sequence[Sent]) -> "Latency":
        """Of these sends."""
        if not sent:
            return cls(0.0, 0.0, 0)
        times = sorted(one.latency_ms for one in sent)
        return cls(times[len(times) // 2], times[len(times) * 99 // 100], len(times))


def between(sent: Sequence[Sent], start: int, end: int) -> list[Sent]:
    """Those that were under way at any time within."""
    return [one for one in sent if one.planned_at < end and one.answered_at > start]
