"""The rows of the model store: invocations, their payloads, and the scans over them.

It is strict where other adapters may be lax:

- What is stored and what the caller holds are different objects. `by_id` and its like hand out a copy, the
  same one for the rest of the transaction; `save` copies it back.
- A row that was changed and not saved fails the next scan, sweep or commit; saving a row that a sweep has
  changed behind the caller's back, or one of an earlier transaction, fails at once. Both would otherwise be
  bugs that show only with another adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from itertools import islice
from math import inf
from typing import Any

import msgspec

from coordinator.model.effects import COUNTED, Effect, perform
from coordinator.model.filters import predicate
from coordinator.model.invocation import Invocation, Payload, ServiceType
from coordinator.stores import payloads
from coordinator.stores.maps import Map, Sorted, UndoLog
from coordinator.stores.port import Candidates, Condition, Scan, Slice


class MemoryRows:
    """Invocations in memory."""

    def __init__(self, undo: UndoLog) -> None:
        self._live: dict[int, Invocation] = {}
        self._rows: Sorted[int, Invocation] = Sorted(undo)
        self._ids: Map[str, int] = Map(undo)
        self._idempotency: Sorted[tuple[str, str, str, bool, str, int], None] = Sorted(undo)
        self._workflows: Sorted[tuple[str, str, int], None] = Sorted(undo)
        self._payloads: Sorted[int, Payload] = Sorted(undo)
        self._members: Sorted[tuple[int, int], None] = Sorted(undo)

    def _check_saved(self) -> None:
        for seq, row in self._live.items():
            assert row == self._rows.values[seq], f"row {seq} was changed and not saved"

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
        return payloads.copied(self._payloads.get(seq) or payloads.EMPTY)

    def save_payload(self, seq: int, payload: Payload) -> None:
        if payload == payloads.EMPTY:
            self._payloads.drop(seq)
        else:
            self._payloads.put(seq, payloads.copied(payload))

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

    # -- comparison

    def _dump_rows(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for seq in self._rows.above(-inf):
            yield "invocation", msgspec.structs.astuple(self._rows.values[seq])
        for seq in self._payloads.above(-inf):
            yield "payload", (seq, *payloads.facts(self._payloads.values[seq]))
        for member in self._members.above(()):
            yield "member", member


def _once(service: str, handler: str, key: str | None, idempotency_key: str) -> tuple[str, str, str, bool, str]:
    """What an idempotency key is unique within; no key and the empty key are different targets."""
    return service, handler, idempotency_key, key is not None, key or ""


_CANDIDATES: dict[Candidates, Callable[[Scan, Invocation], bool]] = {
    Candidates.ALL: lambda scan, row: True,
    Candidates.SERVICE: lambda scan, row: row.service == scan.service,
    Candidates.KEY: lambda scan, row: row.service == scan.service and row.key == scan.key,
}
