"""`python -m bench`: measure everything, print the table, write results/latest.json."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import (
    breakdown,
    cancels,
    command,
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
from bench.session import Numbers, Session

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
    numbers: Numbers = {"matching": how_much.matching}
    numbers |= load.measure(session)
    for name in names:
        numbers |= FIGURES[name](session)
    numbers["rss_mb"] = max(numbers["rss_mb"], numbers.get("rss_swept_mb", 0.0))
    numbers["longest_step_ms"] = max(numbers[key] for key in report.STEPS if key in numbers)
    return numbers


def main(arguments: list[str]) -> int:
    """Entry point."""
    return command.run(
        arguments,
        program="python -m bench",
        figures=FIGURES,
        targets=report.TARGETS,
        result=report.RESULTS / "latest.json",
        measure=measure,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
