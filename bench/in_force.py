"""How long it takes until a batch is in force, and that this does not hang on how much it matches.

From the append of the batch's record to the word that the owner has committed it. The batches are paused, so
that no sweep disturbs the next one, and aborted in between. A small and a large partition are measured in turns.
"""

import time
from contextlib import ExitStack

from bench import workloads
from bench.session import Numbers, Session, median, quantile
from bench.system import System


def measure(session: Session) -> Numbers:
    """Both partitions, one batch each in turn."""
    scale = session.scale
    session.say(f"in force: {scale.in_force_rounds} batches over {scale.few:,} and {scale.matching:,} invocations")
    with ExitStack() as stack:
        small = stack.enter_context(System(stack.enter_context(session.folder())))
        small.append_all(workloads.scheduled(scale.few))
        large = stack.enter_context(System(stack.enter_context(session.large())))
        few: list[float] = []
        many: list[float] = []
        for system in (small, large):
            system.start()
        for number in range(-10, scale.in_force_rounds):
            for system, times in ((small, few), (large, many)):
                took_ms = _in_force_ms(system, f"batch{number}")
                if number >= 0:  # those before only warm up
                    times.append(took_ms)
        rss_few = small.memory_mb()[0]
    return {
        "in_force_ratio": median(many) / median(few),
        "in_force_ms_10k": median(few),
        "in_force_ms_1m": median(many),
        "in_force_p99_ms_10k": quantile(few, 0.99),
        "in_force_p99_ms_1m": quantile(many, 0.99),
        "rss_10k_mb": rss_few,
    }


def _in_force_ms(system: System, request: str) -> float:
    began = time.perf_counter()
    position = system.append(workloads.kill(request, workloads.MATCHING, paused=True))
    took_ms = (system.await_applied(position) - began) * 1e3
    system.await_applied(system.append(workloads.abort(request)))
    return took_ms
