"""What a second worker process brings: two partitions, applied by one worker and by two.

Both ways take the same records, and both begin with all of them on the log. Workers share the machine with the broker
and with this process, which hears them; CPU seconds say how much of it the workers had.
"""

import time
from typing import Final

from bench import workloads
from bench.kafka.session import KafkaSession
from bench.kafka.system import pids, system
from bench.session import Numbers, Turns
from bench.system import cpu_s, held_still

PARTITIONS: Final = 2


def measure(session: KafkaSession) -> Numbers:
    """One worker and two, in turns."""
    turns = Turns()
    for turn in range(session.scale.turns):
        session.say(f"workers: turn {turn + 1} of {session.scale.turns}")
        records = {
            number: workloads.mixed(session.scale.mixed // PARTITIONS, turn, partition=number, partitions=PARTITIONS)
            for number in range(PARTITIONS)
        }
        one, one_cores = _applied(session, records, 1)
        two, two_cores = _applied(session, records, 2)
        turns.took(
            workers_one_per_s=one,
            workers_two_per_s=two,
            workers_ratio=two / one,
            workers_one_cores=one_cores,
            workers_two_cores=two_cores,
            workers_per_core_ratio=two / two_cores / (one / one_cores),
        )
    return turns.numbers()


def _applied(session: KafkaSession, records: dict[int, list[bytes]], workers: int) -> tuple[float, float]:
    """Records a second of so many workers, and how many cores they kept busy."""
    with system(session, PARTITIONS) as of:
        processes = pids(of.start_workers(workers))
        with held_still(*processes):
            last = of.append(records)
            used_s, began = cpu_s(*processes), time.time()
        took_s = of.heard.await_applied(last) - began
        used_s = cpu_s(*processes) - used_s
        return sum(map(len, records.values())) / took_s, used_s / took_s
