"""How much is measured: the numbers of a full run, and small ones with which the tests run every figure."""

from dataclasses import dataclass
from typing import Final

SEED: Final = 20_261_121
"""Of every workload."""


@dataclass(frozen=True)
class Scale:
    """Counts and durations of one run."""

    matching: int = 1_000_000
    """Invocations in the scope of a batch."""
    few: int = 10_000
    """The same where a small partition is compared with a large one."""
    appends: int = 1_000
    """Single appends whose latency is taken."""
    sweep_rounds: int = 3
    in_force_rounds: int = 300
    foreground_rounds: int = 4
    foreground_per_s: int = 200
    foreground_idle_s: float = 5.0
    mixed: int = 75_000
    """Invocations of the mixed workload; each has three reports on average."""
    mixed_rounds: int = 2
    entries_of_key: int = 100_000
    children: int = 100_000
    trees: int = 10_000
    """Suspended trees that are cancelled, each of two invocations."""
    turns: int = 3
    """How often each figure on Kafka is taken."""
    logged: int = 50_000
    """Records of 300 bytes, for Kafka's log alone."""
    folded: int = 4_000
    """Records of progress."""
    recovered: int = 10_000
    """Requests on a changelog."""
    one_by_one: int = 100_000
    """Invocations that are killed by a record each."""
    live_per_s: int = 50
    """Starts over HTTP."""
    live_idle_s: float = 5.0


FULL: Final = Scale()
SMALL: Final = Scale(
    matching=20_000,
    few=1_000,
    appends=10,
    sweep_rounds=1,
    in_force_rounds=3,
    foreground_rounds=1,
    foreground_per_s=1_000,
    foreground_idle_s=0.2,
    mixed=500,
    mixed_rounds=1,
    entries_of_key=1_000,
    children=200,
    trees=50,
    turns=1,
    logged=2_000,
    folded=100,
    recovered=200,
    one_by_one=2_000,
    live_per_s=200,
    live_idle_s=0.5,
)
