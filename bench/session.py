"""What the figures of one run share: how much to measure, where, and the large partition to start from."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.report import LEAST, MOST
from bench.scale import Scale

Numbers = dict[str, float]
"""What a figure returns: entries of the result, by key."""


class Session:
    """One run of the benchmarks below a temporary folder."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale: Final = scale
        self.template: Final = folder / "template"
        """Data directory of a partition with `scale.matching` invocations, made by `load`; only copied from."""
        self._folder = folder
        self._folders = 0
        self._began = time.perf_counter()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, removed afterwards."""
        self._folders += 1
        path = self._folder / f"data-{self._folders}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextmanager
    def large(self) -> Iterator[Path]:
        """A copy of the large partition, on the disk before anything is measured."""
        with self.folder() as path:
            shutil.copytree(self.template, path, dirs_exist_ok=True)
            os.sync()
            yield path

    def say(self, text: str) -> None:
        """What is being measured, for whoever waits."""
        print(f"{time.perf_counter() - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which this part of the values lies (the nearest one)."""
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return quantile(values, 0.5)


class Turns:
    """What was measured in turns: each figure several times, so that what goes on beside meets all of them alike."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def took(self, **figures: float) -> None:
        """What came of one turn."""
        for key, value in figures.items():
            self._taken.setdefault(key, []).append(value)

    def numbers(self) -> Numbers:
        """The median and the range of each figure."""
        numbers: Numbers = {}
        for key, values in self._taken.items():
            numbers |= {key: median(values), key + LEAST: min(values), key + MOST: max(values)}
        return numbers


class Others:
    """What other processes took of the machine: where it is much, the figures say little."""

    def __init__(self) -> None:
        self._busy_s, self._own_s, self._began = _busy_s(), _own_s(), time.perf_counter()

    def cores(self) -> float:
        """How many cores they kept busy on average since this was made."""
        busy_s, own_s = _busy_s() - self._busy_s, _own_s() - self._own_s
        return max(0.0, (busy_s - own_s) / (time.perf_counter() - self._began))


def _busy_s() -> float:
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])
