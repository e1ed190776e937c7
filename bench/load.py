"""Making the large partition: the log's appends, the owner's intake of them, and what memory it takes.

Invocations that are scheduled, each with input and headers, appended a thousand at a time and applied by a
worker process. What comes out is the template that other figures copy; its log is trimmed to the last record,
so that copies are cheap.
"""

import time

import apsw

from bench import workloads
from bench.session import Numbers, Session, median
from bench.system import System
from coordinator.logs.port import Entry, Stream


def measure(session: Session) -> Numbers:
    """Fill the template."""
    scale = session.scale
    session.say(f"load: {scale.matching:,} scheduled invocations into one partition")
    session.template.mkdir()
    records = workloads.scheduled(scale.matching)
    with System(session.template) as system:
        append_ms = _single_appends(system, scale.appends)
        began = time.perf_counter()
        last = system.append_all(records)
        append_s = time.perf_counter() - began
        system.start()
        system.await_applied(last)
        (first, first_at), *_ = system.runs()
        load_s = system.applied_at(last) - first_at
        rss, anon, peak = system.memory_mb()
        longest = system.longest_step_ms()
        system.log.trim(Stream.COMMANDS, 0, system.state().position)
        store, log = system.store_path, system.log_path
    for path, statement in ((store, "PRAGMA wal_checkpoint(TRUNCATE)"), (log, "VACUUM")):
        connection = apsw.Connection(str(path))
        connection.execute(statement).fetchall()
        connection.close()
    return {
        "append_per_s": scale.matching / append_s,
        "append_p50_ms": append_ms,
        "load_per_s": (last - first) / load_s,
        "takeover_log_s": load_s,
        "longest_step_load_ms": longest,
        "rss_mb": rss,
        "rss_anon_mb": anon,
        "rss_peak_mb": peak,
        "store_mb": store.stat().st_size / 2**20,
    }


def _single_appends(system: System, count: int) -> float:
    """The median time until a single record is durable, in ms."""
    entry = [Entry(Stream.DEAD_LETTERS, 0, bytes(200))]  # a stream that nobody reads here
    times = []
    for _ in range(count):
        began = time.perf_counter()
        system.log.append(entry)
        times.append((time.perf_counter() - began) * 1e3)
    return median(times)
