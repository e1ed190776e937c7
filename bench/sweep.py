"""How fast a batch is worked off: one kill by filter over the large partition.

From the append of the batch to the moment when its `completed` progress can be read, with ticks through the log
and everything else that the owner does. Beside it the bare loop: the same statement on a copy of the same file, in
slices as long as the owner's were on average, a commit for each.
"""

import time

from bench import bare, workloads
from bench.session import Numbers, Session, median
from bench.system import System
from coordinator.model import messages


def measure(session: Session) -> Numbers:
    """The owner and the bare loop in turns; medians of the rounds."""
    matching, rounds = session.scale.matching, session.scale.sweep_rounds
    swept, bared, ratios, slices, longest, rss = [], [], [], [], [], []
    for round in range(rounds):
        session.say(f"sweep: round {round + 1} of {rounds}")
        with session.large() as folder, System(folder) as system:
            system.start()
            took_s, ticks = _sweep(system, matching)
            swept.append(matching / took_s)
            slices.append(matching / ticks)
            longest.append(system.longest_step_ms())
            rss.append(system.memory_mb()[0])
        with session.large() as folder:
            took = bare.kill_scheduled(folder / system.store_path.name, workloads.MATCHING, round_up(slices[-1]))
            assert took.count == matching, "the bare loop changes every matching row"
            bared.append(took.per_s)
        ratios.append(swept[-1] / bared[-1])
    return {
        "sweep_per_s": median(swept),
        "sweep_bare_per_s": median(bared),
        "sweep_ratio": median(ratios),
        "sweep_slice_rows": median(slices),
        "longest_step_sweep_ms": max(longest),
        "rss_swept_mb": max(rss),
    }


def _sweep(system: System, matching: int) -> tuple[float, int]:
    """Kill all that matches; the seconds until that was told, and how many ticks it took."""
    start = system.progress_end()
    began = time.perf_counter()
    position = system.append(workloads.kill("sweep", workloads.MATCHING))
    told = system.completed("sweep", start)
    took_s = time.perf_counter() - began
    assert told.tally.ended == told.tally.matched == matching, f"all are ended once: {told.tally}"
    first = system.state().tick
    ticks = [command.tick for command in system.commands(position + 1) if isinstance(command, messages.Tick)]
    return took_s, max(1, sum(tick <= first for tick in ticks))


def round_up(slice_rows: float) -> int:
    """A slice's length in whole rows."""
    return -int(-slice_rows // 1)
