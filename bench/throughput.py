"""How many records a second one partition takes from its log: invokes and reports on them, one to three.

The records stand on the log before the owner starts, so it is never short of them; its rate is from the first
commit that is heard of to the last. Beside it the bare loop over the same records. Both are also measured on a
copy of the large partition, where look-ups meet a million other ids.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench import bare, workloads
from bench.session import Numbers, Session, median
from bench.system import System, stored_state


def measure(session: Session) -> Numbers:
    """The owner and the bare loop in turns, on an empty and on the large partition."""
    longest: list[float] = []
    empty = _rates(session, "an empty partition", session.folder, longest)
    large = _rates(session, "the large partition", session.large, longest)
    return {
        "records_per_s": empty[0],
        "records_bare_per_s": empty[1],
        "records_ratio": empty[0] / empty[1],
        "records_at_1m_per_s": large[0],
        "records_at_1m_bare_per_s": large[1],
        "records_at_1m_ratio": large[0] / large[1],
        "longest_step_records_ms": max(longest),
    }


def _rates(
    session: Session, where: str, place: Callable[[], AbstractContextManager[Path]], longest: list[float]
) -> tuple[float, float]:
    owned, bared = [], []
    for round in range(session.scale.mixed_rounds):
        session.say(f"throughput on {where}: round {round + 1} of {session.scale.mixed_rounds}")
        with place() as folder, System(folder) as system:
            first_tick = stored_state(system.store_path).tick + 1 if system.store_path.exists() else 1
            records = workloads.mixed(session.scale.mixed, round, first_tick)
            last = system.append_all(records)
            system.start()
            system.await_applied(last)
            (first, first_at), *_ = system.runs()
            owned.append((last - first) / (system.applied_at(last) - first_at))
            longest.append(system.longest_step_ms())
            by_owner = bare.statuses(system.store_path)
        with place() as folder:
            bared.append(bare.apply_mixed(folder / system.store_path.name, records).per_s)
            assert bare.statuses(folder / system.store_path.name) == by_owner, "both loops do the same row changes"
    return median(owned), median(bared)
