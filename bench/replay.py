"""How fast a store is made again from the log alone, as `coordinator check` does it.

The mixed workload once more, because a log of invokes alone would be easy to replay.
"""

import time

from bench import workloads
from bench.session import Numbers, Session
from coordinator.logs.reader import LogReader
from coordinator.partition.state import State
from coordinator.runtime.check import replay
from coordinator.runtime.layout import DataDirectory
from coordinator.stores.sqlite import SqliteStore


def measure(session: Session) -> Numbers:
    """Replay it into an empty store."""
    session.say("replay: the mixed workload from its log into a fresh store")
    records = workloads.mixed(session.scale.mixed)
    with session.folder() as folder:
        data = DataDirectory(folder)
        log = data.open_log(1)
        for start in range(0, len(records), 1_000):
            log.append([workloads.entry(value) for value in records[start : start + 1_000]])
        identity = log.identity
        log.close()
        reader, store = LogReader(data.log), SqliteStore(data.store(0))
        upto = State(partition=0, partitions=1, log=identity, position=len(records) - 1)
        began = time.perf_counter()
        _, differences = replay(reader, store, upto)
        took_s = time.perf_counter() - began
        store.close()
        reader.close()
    assert not differences, differences
    return {"replay_per_s": len(records) / took_s}
