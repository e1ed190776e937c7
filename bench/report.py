"""What is wanted of the figures, and how they are shown: measured, baseline, verdict.

A figure that falls short is said to; it is no error of the program. One that was taken several times is shown as its
median, with its range behind it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

BUSY_CORES: Final = 0.2
"""When other processes kept more of the machine busy than this, the figures say little."""
RESULTS: Final = Path(__file__).parent / "results"


LEAST: Final = "_least"
MOST: Final = "_most"
"""What the keys of a range end with."""


class Target(NamedTuple):
    """What is wanted of one figure, if anything."""

    key: str
    text: str
    least: float | None = None
    most: float | None = None
    aim: float | None = None
    """Better than what is required, in the same direction."""
    unit: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    """Baselines and what the figure is made of: label, key."""


TARGETS: Final = (
    Target("sweep_per_s", "sweep, rows/s", least=500_000, beside=(("bare loop", "sweep_bare_per_s"),)),
    Target("sweep_ratio", "sweep to bare loop", least=0.5, aim=0.8, unit="x", beside=(("slice", "sweep_slice_rows"),)),
    Target(
        "in_force_ratio", "in force, 1m to 10k matching", most=1.2, unit="x",
        beside=(("10k ms", "in_force_ms_10k"), ("1m ms", "in_force_ms_1m"), ("append ms", "append_p50_ms")),
    ),
    Target(
        "foreground_p50_ratio", "foreground p50, sweep to idle", most=1.5, unit="x",
        beside=(("idle ms", "foreground_idle_p50_ms"), ("sweep ms", "foreground_sweep_p50_ms")),
    ),
    Target(
        "foreground_p99_extra_ms", "foreground p99, sweep over idle", most=10.0, unit=" ms",
        beside=(("idle ms", "foreground_idle_p99_ms"), ("sweep ms", "foreground_sweep_p99_ms")),
    ),
    Target("records_per_s", "records/s, one partition", least=30_000, beside=(("bare loop", "records_bare_per_s"),)),
    Target(
        "records_ratio", "records to bare loop", least=0.4, aim=0.6, unit="x",
        beside=(("at 1m rows", "records_at_1m_ratio"),),
    ),
    Target("replay_per_s", "replay, records/s", least=40_000, beside=(("bare loop", "records_bare_per_s"),)),
    Target(
        "cancels_per_s", "cooperative cancels/s, to the end", least=940, aim=2_000,
        beside=(("trees", "cancelled_trees_per_s"), ("killed", "kills_of_trees_per_s")),
    ),
    Target(
        "takeover_snapshot_s", "take-over from a snapshot, 1m rows", most=30.0, unit=" s",
        beside=(("log alone s", "takeover_log_s"), ("making one s", "snapshot_s"), ("MiB", "snapshot_mb")),
    ),
    Target(
        "rss_mb", "memory of a worker, 1m rows", most=300.0, unit=" MiB",
        beside=(("anonymous", "rss_anon_mb"), ("10k rows", "rss_10k_mb")),
    ),
    Target(
        "longest_step_ms", "longest step of all", most=20.0, unit=" ms",
        beside=(("key", "longest_step_key_ms"), ("children", "longest_step_children_ms")),
    ),
)  # fmt: skip
STEPS: Final = tuple(
    f"longest_step_{of}_ms"
    for of in ("load", "sweep", "foreground", "records", "key_load", "key", "children_load", "children", "snapshot")
)


def rows(numbers: Mapping[str, float], targets: Sequence[Target]) -> Iterator[tuple[str, str, str, str]]:
    """The table: figure, measured, beside it, verdict. Figures that were not measured are left out."""
    for target in targets:
        if target.key in numbers:
            beside = ", ".join(f"{label} {text(numbers[key])}" for label, key in target.beside if key in numbers)
            measured = text(numbers[target.key]) + target.unit + spread(numbers, target.key)
            yield target.text, measured, beside, verdict(target, numbers[target.key])


def spread(numbers: Mapping[str, float], key: str) -> str:
    """The range of a figure that was taken several times, in brackets."""
    if key + LEAST not in numbers:
        return ""
    return f" ({text(numbers[key + LEAST])}-{text(numbers[key + MOST])})"


def verdict(target: Target, value: float) -> str:
    """Whether the value is what is wanted, in words."""
    if target.least is not None:
        wanted, met = f"at least {text(target.least)}", value >= target.least
        short_of_aim = target.aim is not None and value < target.aim
    elif target.most is None:
        return ""
    else:
        wanted, met = f"at most {text(target.most)}", value <= target.most
        short_of_aim = target.aim is not None and value > target.aim
    if not met:
        return f"falls short of {wanted}{target.unit}"
    if short_of_aim:
        return f"{wanted}{target.unit}; short of the aim of {text(target.aim or 0)}{target.unit}"
    return f"{wanted}{target.unit}"


def text(value: float) -> str:
    """A number for people."""
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def show(numbers: Mapping[str, float], targets: Sequence[Target] = TARGETS) -> str:
    """The table of figures, then all the other numbers."""
    table = [("figure", "measured", "beside it", "wanted"), *rows(numbers, targets)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    elsewhere = numbers.get("busy_elsewhere_cores", 0.0)
    if elsewhere > BUSY_CORES:
        lines += ["", f"Other processes kept {elsewhere:.1f} cores busy meanwhile, so these figures say little."]
    shown = {target.key for target in targets}
    lines.append("")
    lines += [
        f"{key:32} {text(value)}{spread(numbers, key)}"
        for key, value in numbers.items()
        if key not in shown and not key.endswith((LEAST, MOST))
    ]
    return "\n".join(lines)


def write(numbers: Mapping[str, float], path: Path) -> None:
    """One flat object of numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {key: float(f"{value:.6g}") for key, value in numbers.items()}
    path.write_text(json.dumps(rounded, indent=2) + "\n")
