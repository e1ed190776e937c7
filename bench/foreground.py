"""What live traffic feels of a sweep: the latency of invokes, idle and while a million are killed.

The generator is open loop: each invoke has its time, and its latency counts from that time to the word that the owner
has committed it, however late it was sent. It runs in this process, as the server's HTTP side does, and the
owner in a worker process, so neither takes the other's interpreter lock. Every invocation is completed by its
participant as soon as it was answered.

Each round takes a fresh copy of the large partition: some seconds of traffic alone, then the kill. What was
scheduled between its append and its completion counts as during the sweep; rounds are repeated until there are
samples enough.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import Future

from bench import workloads
from bench.session import Numbers, Session, quantile
from bench.system import System
from coordinator.model import messages
from coordinator.partition.outputs import Answer

_WARM_S = 0.5


def measure(session: Session) -> Numbers:
    """All rounds' samples together."""
    scale = session.scale
    idle: list[float] = []
    during: list[float] = []
    longest, sweep_s = [], 0.0
    for round in range(scale.foreground_rounds):
        session.say(f"foreground: round {round + 1} of {scale.foreground_rounds}")
        with session.large() as folder, System(folder) as system:
            system.start()
            traffic = Traffic(system, scale.foreground_per_s, round)
            traffic.start()
            time.sleep(_WARM_S)
            warm = time.perf_counter()
            time.sleep(scale.foreground_idle_s)
            start, began = system.progress_end(), time.perf_counter()
            system.append(workloads.kill("sweep", workloads.MATCHING))
            told = system.completed("sweep", start)
            ended = time.perf_counter()
            assert told.tally.ended == scale.matching, f"all are ended: {told.tally}"
            for scheduled, latency in traffic.stop():
                if warm <= scheduled < began:
                    idle.append(latency * 1e3)
                elif began <= scheduled < ended:
                    during.append(latency * 1e3)
            sweep_s += ended - began
            longest.append(system.longest_step_ms())
    return {
        "foreground_p50_ratio": quantile(during, 0.5) / quantile(idle, 0.5),
        "foreground_p99_extra_ms": quantile(during, 0.99) - quantile(idle, 0.99),
        "foreground_idle_p50_ms": quantile(idle, 0.5),
        "foreground_idle_p99_ms": quantile(idle, 0.99),
        "foreground_idle_max_ms": max(idle),
        "foreground_sweep_p50_ms": quantile(during, 0.5),
        "foreground_sweep_p99_ms": quantile(during, 0.99),
        "foreground_sweep_max_ms": max(during),
        "foreground_idle_samples": len(idle),
        "foreground_sweep_samples": len(during),
        "foreground_sweep_rows_per_s": scale.matching * scale.foreground_rounds / sweep_s,
        "longest_step_foreground_ms": max(longest),
    }


class Traffic:
    """Invokes at a steady rate, and the participant that completes them."""

    def __init__(self, system: System, per_s: int, round: int) -> None:
        self._system = system
        self._interval_s = 1 / per_s
        self._rng = workloads.source("foreground", round)
        self._stopping = threading.Event()
        self._sent: list[tuple[float, Future[list[int]]]] = []
        self._thread = threading.Thread(target=self._run, name="generator")

    def start(self) -> None:
        self._system.on_applied = self._complete
        self._thread.start()

    def _run(self) -> None:
        scheduled = time.perf_counter()
        while not self._stopping.is_set():
            scheduled += self._interval_s
            value = workloads.invoke(workloads.new_id(self._rng))
            wait_s = scheduled - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            self._sent.append((scheduled, self._system.submit(value)))

    def _complete(self, _at: float, answers: Sequence[Answer]) -> None:
        values = [
            messages.encode(messages.Completed(id=answer.id, attempt=1, outcome="success"))
            for answer in answers
            if answer.status == "ready" and answer.id is not None
        ]
        if values:
            self._system.submit(*values)

    def stop(self) -> list[tuple[float, float]]:
        """End it; of each invoke when it was scheduled and how long it took, in seconds."""
        self._stopping.set()
        self._thread.join()
        sent = [(scheduled, future.result()[0]) for scheduled, future in self._sent]
        self._system.await_applied(sent[-1][1])
        positions, times = zip(*self._system.runs(), strict=True)
        return [(scheduled, times[bisect_left(positions, position)] - scheduled) for scheduled, position in sent]
