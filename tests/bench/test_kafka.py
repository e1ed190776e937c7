"""Every figure on Kafka runs, on numbers too small to mean anything, and leaves no topics behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient

from bench.kafka.__main__ import FIGURES, TARGETS, main

ASKED_FOR = {
    *("commands_ratio", "commands_per_s", "commands_embedded_per_s", "commands_getmany_per_s"),
    *("workers_ratio", "workers_one_per_s", "workers_two_per_s", "workers_one_cores", "workers_two_cores"),
    *("batch_ratio", "batch_per_s", "one_by_one_per_s", "batch_in_force_ms", "progress_p99_ms"),
    *("live_idle_p50_ms", "live_idle_p99_ms", "live_batch_p50_ms", "live_batch_p99_ms", "live_one_by_one_p99_ms"),
    *("takeover_store_s", "takeover_snapshot_s", "takeover_log_s"),
    *("append_ratio", "read_ratio", "append_p99_ms", "folded_ratio", "requests_recovered_s"),
}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A benchmark is a program of its own otherwise, and says nothing below an error."""
    yield
    structlog.reset_defaults()


def test_a_small_run_measures_every_figure(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", kafka)
    output = tmp_path / "kafka.json"
    before = asyncio.run(_topics(kafka))

    assert main(["--small", "--output", str(output)]) == 0

    numbers = json.loads(output.read_text())
    assert set(numbers) >= ASKED_FOR
    assert {key: value for key, value in numbers.items() if value < 0} == {}
    table = capsys.readouterr().out
    assert all(target.text in table for target in TARGETS)
    assert asyncio.run(_topics(kafka)) <= before


def test_a_size_that_does_not_exist_is_an_error_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--small", "--set", "nothing=3", next(iter(FIGURES))])
    assert "there is no size nothing" in capsys.readouterr().err


async def _topics(bootstrap: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return {name for name in await admin.list_topics() if not name.startswith("__")}
    finally:
        await admin.close()
