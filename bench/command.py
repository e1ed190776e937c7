"""The command line that the benchmarks share: which figures, how much of everything, where the numbers go.

Ends with 0 also where a figure falls short: how fast a machine is today is no defect. What cannot be measured at
all, or gives a wrong result, is one.
"""

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench import report, scale
from bench.session import Numbers, Others

Measure = Callable[[scale.Scale, Path, list[str]], Numbers]
"""Measures these figures with so much of everything, in a folder of its own."""


def run(
    arguments: Sequence[str],
    *,
    program: str,
    figures: Collection[str],
    targets: Sequence[report.Target],
    result: Path,
    measure: Measure,
) -> int:
    """Measure, print the table, write `result` if all of it was measured at full size; the exit code."""
    parser = argparse.ArgumentParser(prog=program, description="Measure, each figure beside its baseline.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"only these: {', '.join(figures)}")
    parser.add_argument("--small", action="store_true", help="small numbers, to see that it runs; they mean nothing")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help=f"another size of one thing: {', '.join(_names())}",
    )
    parser.add_argument("--output", type=Path, help=f"where to write the numbers (a full run: {result.name})")
    options = parser.parse_args(arguments)
    unknown = set(options.figures) - set(figures)
    if unknown:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}")
    try:
        how_much = _sized(scale.SMALL if options.small else scale.FULL, options.set)
    except ValueError as error:
        parser.error(str(error))
    print(f"{platform.platform()}, Python {platform.python_version()}, seed {scale.SEED}", file=sys.stderr)
    others = Others()
    with tempfile.TemporaryDirectory(prefix="coordinator-bench-") as folder:
        numbers: Numbers = {"cores": os.cpu_count() or 1, "seed": scale.SEED}
        numbers |= measure(how_much, Path(folder), options.figures or list(figures))
    numbers["busy_elsewhere_cores"] = others.cores()
    print(report.show(numbers, targets))
    output = options.output
    if output is None and not (options.small or options.set or options.figures):
        output = result
    if output is not None:
        report.write(numbers, output)
    return 0


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(scale.Scale)]


def _sized(how_much: scale.Scale, settings: Sequence[str]) -> scale.Scale:
    """The sizes with some of them set, as NAME=NUMBER. Raises ValueError for what is none."""
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _names():
            raise ValueError(f"there is no size {name}; there are {', '.join(_names())}")
        how_much = dataclasses.replace(how_much, **{name: type(getattr(how_much, name))(value)})
    return how_much
