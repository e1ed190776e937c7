"""Taking a large partition over without its store: from a snapshot, and from the log alone. And what making one costs.

The worker process makes the snapshot, as it does in a server, while its owner works: invokes come in at a steady rate,
open loop, and what they feel is compared with what they felt just before.

From the log alone is what `load` has measured: the same records applied from the first on by an owner with an
empty store. Its time counts from the first commit, so what a process takes to start is in neither.
"""

import time
from collections.abc import Callable
from typing import Final

from bench.foreground import Traffic
from bench.session import Numbers, Session, quantile
from bench.system import PATIENCE_S, System
from coordinator.model.limits import SECOND_US
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.runtime.snapshots.recovery import open_store
from coordinator.stores.archive import SnapshotArchive

_WARM_S: Final = 1.0
_LOOK_S: Final = 0.002
ENOUGH: Final = 1 << 60
"""Records until a snapshot, so that it is the time that counts."""


def measure(session: Session) -> Numbers:
    """One snapshot of the large partition under load, one take-over from it."""
    session.say(f"takeover: a snapshot of {session.scale.matching:,} invocations, and a store made from it")
    with session.folder() as place, session.large() as folder:
        archive = SnapshotArchive(str(place), make=True)
        numbers = _make(session, archive, DataDirectory(folder))
        return numbers | _take_over(archive, DataDirectory(folder))


def _make(session: Session, archive: SnapshotArchive, data: DataDirectory) -> Numbers:
    idle_s = session.scale.foreground_idle_s
    policy = SnapshotPolicy(archive.place, every_records=ENOUGH, every_us=int((_WARM_S + idle_s) * SECOND_US))
    with System(data.path, policy) as system:
        system.start()
        traffic = Traffic(system, session.scale.foreground_per_s, 0)
        traffic.start()
        began = _when(data.snapshot(0).exists)
        before = system.longest_step_ms()
        ended = _when(lambda: not data.snapshot(0).exists())
        samples = [(scheduled, latency * 1e3) for scheduled, latency in traffic.stop()]
        longest = system.longest_step_ms()
    idle = [latency for scheduled, latency in samples if began - idle_s <= scheduled < began]
    during = [latency for scheduled, latency in samples if began <= scheduled < ended]
    newest = archive.list()[0]
    return {
        "snapshot_s": ended - began,
        "snapshot_mb": newest.size / 2**20,
        "snapshot_idle_p50_ms": quantile(idle, 0.5),
        "snapshot_idle_p99_ms": quantile(idle, 0.99),
        "snapshot_idle_max_ms": max(idle),
        "snapshot_p50_ms": quantile(during, 0.5),
        "snapshot_p99_ms": quantile(during, 0.99),
        "snapshot_max_ms": max(during),
        "longest_step_before_snapshot_ms": before,
        "longest_step_snapshot_ms": longest,
    }


def _when(holds: Callable[[], bool]) -> float:
    end = time.perf_counter() + PATIENCE_S
    while not holds():
        assert time.perf_counter() < end, "a snapshot is made in time"
        time.sleep(_LOOK_S)
    return time.perf_counter()


def _take_over(archive: SnapshotArchive, data: DataDirectory) -> Numbers:
    for path in data.path.glob(data.store(0).name + "*"):
        path.unlink()
    log = data.open_log(None)
    began = time.perf_counter()
    open_store(data, log, 0, archive).close()
    took_s = time.perf_counter() - began
    log.close()
    return {"takeover_snapshot_s": took_s}
