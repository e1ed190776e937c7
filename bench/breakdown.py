"""Where a record's time goes, in the owner's loop over the mixed workload.

The loop is spelled out here (read, apply, commit, publish) and run twice in this process: once as it is, for
the total, and once with a stopwatch around its parts, for their shares in it. What the stopwatch itself costs
is measured and taken off. Parts exclude each other: of nested ones the innermost counts. What none of them
takes is the machine's own logic.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from bench import workloads
from bench.session import Numbers, Session
from coordinator.logs.port import Log, Stream
from coordinator.model import limits, messages
from coordinator.partition import outbox
from coordinator.partition.machine import Machine
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.publisher import Publisher
from coordinator.stores.port import Store
from coordinator.stores.sqlite import SqliteStore

_PARTS = ("read", "decode", "catch_up", "sql", "outbox", "commit", "publish", "logic")
_TRANSACTION = ("begin", "commit")
_NOT_TIMED = ("rollback", "close", "dump", "errors")
_CALIBRATION = 100_000


def measure(session: Session) -> Numbers:
    """Microseconds of each part for one record, on average."""
    session.say("breakdown: the owner's loop with a stopwatch")
    records = workloads.mixed(session.scale.mixed)
    with session.folder() as folder:
        total_ns = _pass(folder, records, None)
    with session.folder() as folder:
        stopwatch = Stopwatch()
        _pass(folder, records, stopwatch)
    spent_ns = stopwatch.spent_ns()
    total_us = total_ns / len(records) / 1e3
    scale = total_us / sum(spent_ns.values())
    return {f"breakdown_{part}_us": spent_ns[part] * scale for part in _PARTS} | {"breakdown_total_us": total_us}


def _pass(folder: Path, records: list[bytes], stopwatch: "Stopwatch | None") -> int:
    """Apply the records as an owner does; how long that took in all, in ns."""
    data = DataDirectory(folder)
    log = data.open_log(1)
    store = SqliteStore(data.store(0))
    try:
        for start in range(0, len(records), 1_000):
            log.append([workloads.entry(value) for value in records[start : start + 1_000]])
        store.begin()
        machine = Machine(store, partition=0, partitions=1, log=log.identity)
        store.commit()
        loop = _Loop(log, machine, store, Publisher(log, 0))
        with ExitStack() as patches:
            if stopwatch is not None:
                _instrument(stopwatch, patches, loop)
            began = time.perf_counter_ns()
            _run(loop, len(records))
            return time.perf_counter_ns() - began
    finally:
        store.close()
        log.close()


class _Loop(NamedTuple):
    log: Log
    machine: Machine
    store: SqliteStore
    publisher: Publisher


def _run(loop: _Loop, end: int) -> None:
    log, machine, store, publisher = loop
    while machine.state.position + 1 < end:
        start = machine.state.position + 1
        records = log.read(
            Stream.COMMANDS, 0, start, records_max=limits.RUN_RECORDS_MAX, bytes_max=limits.RUN_BYTES_MAX
        )
        store.begin()
        publisher.trim(store)
        for record in records:
            machine.apply(record)
        machine.finish_run(records[-1])
        store.commit()
        publisher.publish(machine.take_outgoing())
        publisher.settle()


def _instrument(stopwatch: "Stopwatch", patches: ExitStack, loop: _Loop) -> None:
    def time_it(part: str, owner: Any, name: str) -> None:
        patches.enter_context(patch.object(owner, name, stopwatch.timed(part, getattr(owner, name))))

    time_it("read", loop.log, "read")
    time_it("decode", messages, "decode_command")
    time_it("catch_up", loop.machine, "seen")
    time_it("outbox", outbox, "send")
    for name in vars(Store):
        if not name.startswith("_") and name not in _NOT_TIMED and "outbox" not in name:
            time_it("commit" if name in _TRANSACTION else "sql", loop.store, name)
    # What was held back is written at the commit, but is not what makes it durable.
    time_it("sql", loop.store, "finish_rows")
    time_it("sql", loop.store, "write_journals")
    time_it("sql", loop.store, "write_tables")
    for name in dir(loop.store):
        if "outbox" in name and callable(getattr(loop.store, name)):
            time_it("outbox", loop.store, name)
    for name in ("publish", "settle"):
        time_it("publish", loop.publisher, name)


class Stopwatch:
    """Charges time to the innermost part that is under way."""

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()  # (part around the call, part of the call)
        self._stack = [_PARTS[-1]]
        self._since = time.perf_counter_ns()

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its time charged to the part."""
        spent, calls, stack, clock = self._spent, self._calls, self._stack, time.perf_counter_ns

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            around = stack[-1]
            calls[around, part] += 1
            now = clock()
            spent[around] += now - self._since
            stack.append(part)
            self._since = now
            try:
                return call(*args, **kwargs)
            finally:
                now = clock()
                spent[part] += now - self._since
                stack.pop()
                self._since = now

        return wrapped

    def spent_ns(self) -> dict[str, float]:
        """By part, without what the stopwatch itself has cost."""
        inside, outside = _cost_ns()
        spent: Counter[str] = Counter()
        spent.update(self._spent)
        charged = {part: float(ns) for part, ns in spent.items()}
        for (around, part), count in self._calls.items():
            charged[part] -= count * inside
            charged[around] -= count * outside
        return {part: max(0.0, charged.get(part, 0.0)) for part in _PARTS}


def _cost_ns() -> tuple[float, float]:
    """What a timed call costs more than a plain one: charged to its own part, and to the part around it."""

    def nothing() -> None:
        pass

    def loop(call: Callable[[], None]) -> int:
        began = time.perf_counter_ns()
        for _ in range(_CALIBRATION):
            call()
        return time.perf_counter_ns() - began

    plain = min(loop(nothing) for _ in range(3))
    stopwatch = Stopwatch()
    timed = stopwatch.timed("inside", nothing)
    whole = loop(timed)
    inside = stopwatch._spent["inside"]
    return inside / _CALIBRATION, max(0.0, (whole - inside - plain) / _CALIBRATION)
