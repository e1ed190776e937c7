"""`python -m bench.kafka`: measure on a real broker, print the table, write results/kafka.json.

The broker is the one that tests take: see `tests.kafka.broker`.
"""

import logging
import sys
from pathlib import Path
from typing import Final

import structlog

from bench import command, report, scale
from bench.kafka import batch, commands, log, requests, takeover, workers
from bench.kafka.session import Figure, KafkaSession
from bench.report import Target
from bench.session import Numbers
from tests.kafka import broker

FIGURES: Final[dict[str, Figure]] = {
    "log": log.measure,
    "commands": commands.measure,
    "workers": workers.measure,
    "batch": batch.measure,
    "takeover": takeover.measure,
    "requests": requests.measure,
}
TARGETS: Final = (
    Target(
        "commands_ratio", "commands of one worker, to embedded", least=0.6, unit="x",
        beside=(
            ("on Kafka/s", "commands_per_s"), ("embedded/s", "commands_embedded_per_s"),
            ("bare getmany/s", "commands_getmany_per_s"),
        ),
    ),
    Target(
        "workers_ratio", "two workers to one", least=1.6, unit="x",
        beside=(
            ("one/s", "workers_one_per_s"), ("two/s", "workers_two_per_s"), ("cores of one", "workers_one_cores"),
            ("of two", "workers_two_cores"),
        ),
    ),
    Target(
        "batch_ratio", "a batch to one kill for each id", unit="x",
        beside=(("batch rows/s", "batch_per_s"), ("one by one/s", "one_by_one_per_s")),
    ),
    Target("batch_in_force_ms", "from the request to in force everywhere", unit=" ms"),
    Target(
        "progress_p99_ms", "progress, from its append to being seen, p99", unit=" ms",
        beside=(("p50", "progress_p50_ms"), ("samples", "progress_samples")),
    ),
    Target(
        "live_p50_ratio", "a start over HTTP, batch to idle, p50", unit="x",
        beside=(
            ("idle ms", "live_idle_p50_ms"), ("p99", "live_idle_p99_ms"),
            ("batch ms", "live_batch_p50_ms"), ("p99", "live_batch_p99_ms"),
            ("one by one ms", "live_one_by_one_p50_ms"), ("p99", "live_one_by_one_p99_ms"),
        ),
    ),
    Target(
        "takeover_snapshot_s", "take-over from a snapshot", unit=" s",
        beside=(("own store s", "takeover_store_s"), ("log alone s", "takeover_log_s")),
    ),
    Target("read_ratio", "the log's reads to bare aiokafka", unit="x", beside=(("bare/s", "read_bare_per_s"),)),
    Target("append_ratio", "the log's appends to bare aiokafka", unit="x", beside=(("bare/s", "append_bare_per_s"),)),
    Target(
        "folded_ratio", "progress folded through Faust, to embedded", unit="x",
        beside=(("Faust/s", "folded_per_s"), ("embedded/s", "folded_embedded_per_s"), ("bare/s", "folded_bare_per_s")),
    ),
)  # fmt: skip


def measure(how_much: scale.Scale, folder: Path, names: list[str]) -> Numbers:
    """The numbers of these figures."""
    # Workers come and go here on purpose; what this process says of that would stand between the figures.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with broker.running() as bootstrap:
        session = KafkaSession(how_much, folder, bootstrap)
        numbers: Numbers = {"matching": how_much.matching, "turns": how_much.turns}
        for name in names:
            numbers |= FIGURES[name](session)
        return numbers


def main(arguments: list[str]) -> int:
    """Entry point."""
    try:
        return command.run(
            arguments,
            program="python -m bench.kafka",
            figures=FIGURES,
            targets=TARGETS,
            result=report.RESULTS / "kafka.json",
            measure=measure,
        )
    except broker.NoBrokerError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
