"""`python -m bench`: measure everything, print the table, write results/latest.json.

Ends with 0 also where a figure falls short: how fast a machine is today is no defect. What cannot be measured at
all, or gives a wrong result, is one.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import (
    breakdown,
    cancels,
    foreground,
    in_force,
    load,
    replay,
    report,
    scale,
    steps,
    sweep,
    takeover,
    throughput,
)
from bench.session import Numbers, Others, Session

Figure = Callable[[Session], Numbers]

FIGURES: Final[dict[str, Figure]] = {
    "sweep": sweep.measure,
    "in-force": in_force.measure,
    "foreground": foreground.measure,
    "throughput": throughput.measure,
    "breakdown": breakdown.measure,
    "replay": replay.measure,
    "steps": steps.measure,
    "cancels": cancels.measure,
    "takeover": takeover.measure,
}
"""All but `load`, which makes what they start from and comes first."""


def measure(how_much: scale.Scale, folder: Path, names: list[str]) -> Numbers:
    """The numbers of these figures."""
    session = Session(how_much, folder)
    others = Others()
    numbers: Numbers = {
        "cores": os.cpu_count() or 1,
        "seed": scale.SEED,
        "matching": how_much.matching,
    }
    numbers |= load.measure(session)
    for name in names:
        numbers |= FIGURES[name](session)
    numbers["rss_mb"] = max(numbers["rss_mb"], numbers.get("rss_swept_mb", 0.0))
    numbers["longest_step_ms"] = max(numbers[key] for key in report.STEPS if key in numbers)
    numbers["busy_elsewhere_cores"] = others.cores()
    return numbers


def main(arguments: list[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, each figure beside its baseline.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"only these: {', '.join(FIGURES)}")
    parser.add_argument("--small", action="store_true", help="small numbers, to see that it runs; they mean nothing")
    parser.add_argument("--output", type=Path, help="where to write the numbers (a full run: results/latest.json)")
    options = parser.parse_args(arguments)
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}")
    how_much = scale.SMALL if options.small else scale.FULL
    print(f"{platform.platform()}, Python {platform.python_version()}, seed {scale.SEED}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="coordinator-bench-") as folder:
        numbers = measure(how_much, Path(folder), options.figures or list(FIGURES))
    print(report.show(numbers))
    output = options.output
    if output is None and not options.small and not options.figures:
        output = report.RESULT
    if output is not None:
        report.write(numbers, output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
