"""The reference model of the store: plain maps that say what the port means.

The other adapters are compared with this one call by call, so it is written to be read, and it is strict
where they may be lax:

- What is stored and what the caller holds are different objects. `by_id` and its like hand out a copy, the
  same one for the rest of the transaction; `save` copies it back.
- A row that was changed and not saved fails the next scan, sweep or commit; saving a row that a sweep has
  changed behind the caller's back, or one of an earlier transaction, fails at once. Both would otherwise be
  bugs that show only with another adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from itertools import islice
from math import inf
from typing import Any

import msgspec

from coordinator.model.effects import COUNTED, Effect, perform
from coordinator.model.filters import predicate
from coordinator.model.invocation import Invocation, Payload, ServiceType
from coordinator.stores.maps import Journal, Map, Sorted
from coordinator.stores.port import Candidates, Condition, Scan, Slice, Timer, Work

_EMPTY = Payload()


class MemoryStore:
    """One partition's state in memory."""

    def __init__(self) -> None:
        self._journal = journal = Journal()
        self._live: dict[int, Invocation] = {}
        self._state: Map[None, bytes] = Map(journal)
        self._rows: Sorted[int, Invocation] = Sorted(journal)
        self._ids: Map[str, int] = Map(journal)
        self._idempotency: Sorted[tuple[str, str, str, bool, str, int], None] = Sorted(journal)
        self._workflows: Sorted[tuple[str, str, int], None] = Sorted(journal)
        self._payloads: Sorted[int, Payload] = Sorted(journal)
        self._members: Sorted[tuple[int, int], None] = Sorted(journal)
        self._holders: Sorted[tuple[str, str], int] = Sorted(journal)
        self._queue: Sorted[tuple[str, str, int, str, int], None] = Sorted(journal)
        self._edges: Sorted[tuple[str, str], None] = Sorted(journal)
        self._ready: Sorted[int, int] = Sorted(journal)
        self._timers: Sorted[Timer, None] = Sorted(journal)
        self._work: Sorted[int, Work] = Sorted(journal)
        self._batches: Sorted[int, tuple[str, bytes]] = Sorted(journal)
        self._outbox: Sorted[tuple[int, int], bytes] = Sorted(journal)

    # -- transactions

    def begin(self) -> None:
        self._journal.begin()
        self._live.clear()

    def commit(self) -> None:
        self._check_saved()
        self._journal.commit()
        self._live.clear()

    def rollback(self) -> None:
        self._journal.rollback()
        self._live.clear()

    def load_state(self) -> bytes | None:
        return self._state.get(None)

    def save_state(self, state: bytes) -> None:
        self._state.put(None, state)

    def _check_saved(self) -> None:
        for seq, row in self._live.items():
            assert row == self._rows.values[seq], f"row {seq} was changed and not saved"

    # -- invocations

    def insert(self, row: Invocation, payload: Payload | None) -> None:
        last = self._rows.below(inf)
        assert last is None or last < row.seq, f"row {row.seq} comes after row {last}"
        assert row.id not in self._ids.values, f"there is a row with the id {row.id}"
        self._live[row.seq] = row
        self._rows.put(row.seq, copy(row))
        self._ids.put(row.id, row.seq)
        for index, entry in self._entries(row):
            index.put(entry, None)
        if payload is not None:
            self.save_payload(row.seq, payload)

    def _entries(self, row: Invocation) -> Iterator[tuple[Sorted[Any, None], tuple[Any, ...]]]:
        if row.idempotency_key is not None:
            yield self._idempotency, (*_once(row.service, row.handler, row.key, row.idempotency_key), row.seq)
        if row.type == ServiceType.WORKFLOW and not row.shared and row.key is not None:
            yield self._workflows, (row.service, row.key, row.seq)

    def by_id(self, id: str) -> Invocation | None:
        seq = self._ids.get(id)
        return None if seq is None else self.by_seq(seq)

    def by_seq(self, seq: int) -> Invocation | None:
        row = self._live.get(seq)
        if row is None and (stored := self._rows.get(seq)) is not None:
            row = self._live[seq] = copy(stored)
        return row

    def by_idempotency_key(
        self, service: str, handler: str, key: str | None, idempotency_key: str
    ) -> Invocation | None:
        return self._newest(self._idempotency, _once(service, handler, key, idempotency_key))

    def by_workflow_key(self, service: str, key: str) -> Invocation | None:
        return self._newest(self._workflows, (service, key))

    def _newest(self, index: Sorted[Any, None], what: tuple[Any, ...]) -> Invocation | None:
        entry = index.below((*what, inf))
        return self.by_seq(entry[-1]) if entry is not None and entry[:-1] == what else None

    def save(self, row: Invocation) -> None:
        assert self._live.get(row.seq) is row, f"row {row.seq} is stale; it must be looked up again"
        self._rows.put(row.seq, copy(row))

    def remove(self, row: Invocation) -> None:
        assert self._live.get(row.seq) is row, f"row {row.seq} is stale; it must be looked up again"
        self._remove(row)

    def _remove(self, row: Invocation) -> None:
        self._live.pop(row.seq, None)
        self._rows.drop(row.seq)
        self._ids.drop(row.id)
        for index, entry in self._entries(row):
            index.drop(entry)
        self._payloads.drop(row.seq)

    def payload(self, seq: int) -> Payload:
        return _copy_payload(self._payloads.get(seq) or _EMPTY)

    def save_payload(self, seq: int, payload: Payload) -> None:
        if payload == _EMPTY:
            self._payloads.drop(seq)
        else:
            self._payloads.put(seq, _copy_payload(payload))

    # -- scans

    def slice_end(self, scan: Scan, after: int, below: int, limit: int) -> tuple[int | None, int]:
        found = list(islice(self._candidates(scan, after, below), limit))
        return (found[-1] if found else None), len(found)

    def select(self, part: Slice, condition: Condition, limit: int) -> list[Invocation]:
        found = list(islice(self._matches(part, condition), limit))
        return [row for seq in found if (row := self.by_seq(seq)) is not None]

    def sweep(self, part: Slice, condition: Condition, effect: Effect, at: int, position: int) -> int:
        found = list(self._matches(part, condition))
        for seq in found:
            row = copy(self._rows.values[seq])
            if effect.removes:
                self._remove(row)
            else:
                self._live.pop(seq, None)
                perform(effect, row, at, position)
                self._rows.put(seq, row)
        return len(found)

    def mark_members(self, part: Slice, condition: Condition, position: int) -> int:
        for seq in list(self._matches(part, condition)):
            self._members.put((position, seq), None)
        return self.sweep(part, condition, COUNTED, 0, position)

    def add_member(self, position: int, seq: int) -> None:
        self._members.put((position, seq), None)

    def is_member(self, position: int, seq: int) -> bool:
        return (position, seq) in self._members.values

    def drop_members(self, position: int, limit: int) -> int:
        found = list(islice(self._marks(position, 0, None), limit))
        for seq in found:
            self._members.drop((position, seq))
        return len(found)

    def _marks(self, position: int, after: int, below: int | None) -> Iterator[int]:
        for marked_by, seq in self._members.above((position, after)):
            if marked_by != position or (below is not None and seq >= below):
                return
            yield seq

    def _candidates(self, scan: Scan, after: int, below: int) -> Iterator[int]:
        if scan.candidates is Candidates.MEMBERS:
            assert scan.members_of is not None, "a scan of members says whose"
            yield from self._marks(scan.members_of, after, below)
            return
        is_candidate = _CANDIDATES[scan.candidates]
        for seq in self._rows.above(after):
            if seq >= below:
                return
            if is_candidate(scan, self._rows.values[seq]):
                yield seq

    def _matches(self, part: Slice, condition: Condition) -> Iterator[int]:
        self._check_saved()
        passes = predicate(condition.filter)
        for seq in self._candidates(part.scan, part.after, part.upto + 1):
            row = self._rows.get(seq)
            if (
                row is not None
                and row.caught_up_to < condition.caught_up_below
                and (condition.tied is None or condition.tied == (row.ties != 0))
                and (condition.statuses is None or row.status in condition.statuses)
                and passes(row)
            ):
                yield seq

    # -- keys

    def holder(self, service: str, key: str) -> int | None:
        return self._holders.get((service, key))

    def set_holder(self, service: str, key: str, seq: int | None) -> None:
        if seq is None:
            self._holders.drop((service, key))
        else:
            self._holders.put((service, key), seq)

    def queue_push(self, service: str, key: str, at: int, tiebreak: str, seq: int) -> None:
        self._queue.put((service, key, at, tiebreak, seq), None)

    def queue_pop(self, service: str, key: str) -> int | None:
        first = next(self._queue.above((service, key)), None)
        if first is None or first[:2] != (service, key):
            return None
        self._queue.drop(first)
        return first[-1]

    def free_keys(self, service: str, key: str, limit: int) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
        found: list[tuple[str, str]] = []
        last = (service, key)
        for _ in range(limit):
            entry = next(self._queue.above((*last, inf)), None)
            if entry is None:
                return found, None
            last = entry[:2]
            if last not in self._holders.values:
                found.append(last)
        return found, last

    # -- call trees

    def edge_add(self, parent: str, child: str) -> bool:
        return self._edges.put((parent, child), None)

    def edge_remove(self, parent: str, child: str) -> bool:
        return self._edges.drop((parent, child))

    def edges(self, parent: str, after: str, limit: int) -> list[str]:
        found = islice(self._edges.above((parent, after)), limit)
        return [child for of, child in found if of == parent]

    # -- those waiting for a delivery

    def ready_push(self, ordinal: int, seq: int) -> None:
        assert ordinal not in self._ready.values, f"ordinal {ordinal} is taken"
        self._ready.put(ordinal, seq)

    def ready_pop(self) -> int | None:
        ordinal = next(self._ready.above(-inf), None)
        if ordinal is None:
            return None
        seq = self._ready.get(ordinal)
        self._ready.drop(ordinal)
        return seq

    # -- timers

    def timer_add(self, timer: Timer) -> None:
        self._timers.put(timer, None)

    def timer_remove(self, timer: Timer) -> None:
        self._timers.drop(timer)

    def timers_due(self, at: int, limit: int) -> list[Timer]:
        return [timer for timer in islice(self._timers.above(()), limit) if timer.due_at <= at]

    def next_timer(self) -> int | None:
        first = next(self._timers.above(()), None)
        return None if first is None else first.due_at

    # -- work items

    def work_put(self, work: Work) -> None:
        self._work.put(work.number, copy(work))

    def work_remove(self, number: int) -> None:
        self._work.drop(number)

    def work_list(self, limit: int) -> list[Work]:
        return [copy(self._work.values[number]) for number in islice(self._work.above(-inf), limit)]

    # -- batches

    def batch_put(self, position: int, request: str, value: bytes) -> None:
        self._batches.put(position, (request, value))

    def batch_remove(self, position: int) -> None:
        self._batches.drop(position)

    def batches(self) -> list[tuple[int, str, bytes]]:
        return [(position, *self._batches.values[position]) for position in self._batches.above(-inf)]

    # -- outbox

    def outbox_put(self, destination: int, number: int, value: bytes) -> None:
        self._outbox.put((destination, number), value)

    def outbox_list(self, destination: int, above: int, limit: int) -> list[tuple[int, bytes]]:
        entries = islice(self._outbox.above((destination, above)), limit)
        return [(number, self._outbox.values[to, number]) for to, number in entries if to == destination]

    def outbox_trim(self, destination: int, upto: int) -> None:
        while (entry := next(self._outbox.above((destination,)), None)) is not None:
            if entry[0] != destination or entry[1] > upto:
                return
            self._outbox.drop(entry)

    def outbox_destinations(self) -> list[int]:
        return sorted({destination for destination, _ in self._outbox.values})

    # -- comparison

    def dump(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        self._check_saved()
        for state in self._state.values.values():
            yield "state", (state,)
        for seq in self._rows.above(-inf):
            yield "invocation", msgspec.structs.astuple(self._rows.values[seq])
        for seq in self._payloads.above(-inf):
            payload = self._payloads.values[seq]
            yield "payload", (seq, payload.input, tuple(sorted(payload.headers.items())), payload.output)
        for member in self._members.above(()):
            yield "member", member
        for held in self._holders.above(()):
            yield "holder", (*held, self._holders.values[held])
        for waiter in self._queue.above(()):
            yield "queue", waiter
        for edge in self._edges.above(()):
            yield "edge", edge
        for ordinal in self._ready.above(-inf):
            yield "ready", (ordinal, self._ready.values[ordinal])
        for timer in self._timers.above(()):
            yield "timer", tuple(timer)
        for number in self._work.above(-inf):
            yield "work", msgspec.structs.astuple(self._work.values[number])
        for position in self._batches.above(-inf):
            yield "batch", (position, *self._batches.values[position])

    def errors(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        if self._journal.open:
            self.rollback()


def _once(service: str, handler: str, key: str | None, idempotency_key: str) -> tuple[str, str, str, bool, str]:
    """What an idempotency key is unique within; no key and the empty key are different targets."""
    return service, handler, idempotency_key, key is not None, key or ""


def _copy_payload(payload: Payload) -> Payload:
    return Payload(payload.input, dict(payload.headers), payload.output)


_CANDIDATES: dict[Candidates, Callable[[Scan, Invocation], bool]] = {
    Candidates.ALL: lambda scan, row: True,
    Candidates.SERVICE: lambda scan, row: row.service == scan.service,
    Candidates.KEY: lambda scan, row: row.service == scan.service and row.key == scan.key,
}
