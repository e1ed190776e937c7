"""The reference model of the store: plain maps that say what the port means.

The other adapters are compared with this one call by call, so it is written to be read. Rows and the scans over
them are in `memory_rows`; here is everything else, and the transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from itertools import islice
from math import inf
from typing import Any

import msgspec

from coordinator.model.journal import Entry
from coordinator.stores.maps import Map, Sorted, UndoLog
from coordinator.stores.memory_rows import MemoryRows
from coordinator.stores.port import Timer, Work


class MemoryStore(MemoryRows):
    """One partition's state in memory."""

    def __init__(self) -> None:
        self._undo = undo = UndoLog()
        super().__init__(undo)
        self._state: Map[None, bytes] = Map(undo)
        self._holders: Sorted[tuple[str, str], int] = Sorted(undo)
        self._queue: Sorted[tuple[str, str, int, str, int], None] = Sorted(undo)
        self._edges: Sorted[tuple[str, str], int] = Sorted(undo)
        self._awaiters: Sorted[tuple[int, str, str], None] = Sorted(undo)
        self._journal: Sorted[tuple[int, int], Entry] = Sorted(undo)
        self._values: Sorted[tuple[str, str, str], bytes] = Sorted(undo)
        self._held: Sorted[int, tuple[int, str]] = Sorted(undo)
        self._ready: Sorted[tuple[str, int], int] = Sorted(undo)
        self._timers: Sorted[Timer, None] = Sorted(undo)
        self._work: Sorted[int, Work] = Sorted(undo)
        self._batches: Sorted[int, tuple[str, bytes]] = Sorted(undo)
        self._outbox: Sorted[tuple[int, int], bytes] = Sorted(undo)

    # -- transactions

    def begin(self) -> None:
        self._undo.begin()
        self._live.clear()

    def commit(self) -> None:
        self._check_saved()
        self._undo.commit()
        self._live.clear()

    def rollback(self) -> None:
        self._undo.rollback()
        self._live.clear()

    def load_state(self) -> bytes | None:
        return self._state.get(None)

    def save_state(self, state: bytes) -> None:
        self._state.put(None, state)

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

    def edge_add(self, parent: str, child: str, step: int) -> bool:
        if (parent, child) in self._edges.values:
            return False
        return self._edges.put((parent, child), step)

    def edge_remove(self, parent: str, child: str) -> int | None:
        step = self._edges.get((parent, child))
        self._edges.drop((parent, child))
        return step

    def edges(self, parent: str, after: str, limit: int) -> list[str]:
        found = islice(self._edges.above((parent, after)), limit)
        return [child for of, child in found if of == parent]

    def awaiter_add(self, seq: int, parent: str, child: str) -> None:
        self._awaiters.put((seq, parent, child), None)

    def awaiters(self, seq: int, limit: int) -> list[tuple[str, str]]:
        found = islice(self._awaiters.above((seq,)), limit)
        return [(parent, child) for of, parent, child in found if of == seq]

    def awaiter_remove(self, seq: int, parent: str, child: str) -> None:
        self._awaiters.drop((seq, parent, child))

    # -- journals

    def journal_put(self, seq: int, entry: Entry) -> None:
        self._journal.put((seq, entry.step), copy(entry))

    def journal_entry(self, seq: int, step: int) -> Entry | None:
        return copy(self._journal.get((seq, step)))

    def journal(self, seq: int, after: int, limit: int) -> list[Entry]:
        found = islice(self._journal.above((seq, after)), limit)
        return [copy(self._journal.values[of, step]) for of, step in found if of == seq]

    def journal_kept(self, first: int, last: int) -> bool:
        entry = next(self._journal.above((first,)), None)
        return entry is not None and entry[0] <= last

    def journal_drop(self, first: int, last: int, limit: int) -> tuple[int, int | None]:
        used, seq = 0, first
        while used < limit:
            place = next(self._journal.above((seq,)), None)
            if place is None or place[0] > last:
                return used, None
            used += 1
            seq = place[0]
            if seq in self._rows.values:
                seq += 1
            else:
                self._journal.drop(place)
        return used, seq

    # -- state of keyed services

    def value(self, service: str, key: str, name: str) -> bytes | None:
        return self._values.get((service, key, name))

    def value_put(self, service: str, key: str, name: str, value: bytes) -> bool:
        return self._values.put((service, key, name), value)

    def value_remove(self, service: str, key: str, name: str) -> bool:
        return self._values.drop((service, key, name))

    def values(self, service: str, key: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        found = islice(self._values.above((service, key, after)), limit)
        return [(place[2], self._values.values[place]) for place in found if place[:2] == (service, key)]

    # -- deliveries

    def held_put(self, seq: int, position: int, lane: str) -> None:
        self._held.put(seq, (position, lane))

    def held_remove(self, seq: int) -> str:
        lane = self._held.values[seq][1]
        self._held.drop(seq)
        return lane

    def held_before(self, position: int, limit: int) -> list[int]:
        found = (seq for seq in self._held.above(-inf) if self._held.values[seq][0] < position)
        return list(islice(found, limit))

    def ready_push(self, lane: str, ordinal: int, seq: int) -> None:
        last = self._ready.below((lane, inf))
        assert last is None or last[0] != lane or last[1] < ordinal, f"ordinal {ordinal} comes too late"
        self._ready.put((lane, ordinal), seq)

    def ready_pop(self, lane: str) -> int | None:
        first = next(self._ready.above((lane,)), None)
        if first is None or first[0] != lane:
            return None
        seq = self._ready.values[first]
        self._ready.drop(first)
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
        yield from self._dump_rows()
        for held in self._holders.above(()):
            yield "holder", (*held, self._holders.values[held])
        for waiter in self._queue.above(()):
            yield "queue", waiter
        for edge in self._edges.above(()):
            yield "edge", (*edge, self._edges.values[edge])
        for awaiter in self._awaiters.above(()):
            yield "awaiter", awaiter
        for seq, step in self._journal.above(()):
            yield "journal", (seq, *msgspec.structs.astuple(self._journal.values[seq, step]))
        for place in self._values.above(()):
            yield "value", (*place, self._values.values[place])
        for seq in self._held.above(-inf):
            yield "held", (seq, *self._held.values[seq])
        for waiting in self._ready.above(()):
            yield "ready", (*waiting, self._ready.values[waiting])
        for timer in self._timers.above(()):
            yield "timer", tuple(timer)
        for number in self._work.above(-inf):
            yield "work", msgspec.structs.astuple(self._work.values[number])
        for position in self._batches.above(-inf):
            yield "batch", (position, *self._batches.values[position])

    def errors(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        if self._undo.open:
            self.rollback()
