"""The clocks of the running system. The machines have none: their time is the log's."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since the epoch."""


def wall_clock_us() -> int:
    """The machine's time, as the log stamps it."""
    return time.time_ns() // 1000


def monotonic_us() -> int:
    """For durations; its zero means nothing."""
    return time.perf_counter_ns() // 1000


def thread_cpu_us() -> int:
    """How long this thread has computed."""
    return time.thread_time_ns() // 1000
