"""What Faust is told, and what it is not waited for."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from faust.types import FutureMessage

from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.port import Record, Stream
from coordinator.runtime.requests.application import application
from coordinator.runtime.requests.table import Table


class Idle:
    """A folder that is never asked to fold."""

    async def taken_over(self, table: Table) -> None: ...
    def lost(self) -> None: ...
    def given(self) -> None: ...
    def misled(self, error: Exception) -> None: ...
    async def fold(self, stream: Stream, run: Sequence[Record]) -> bool:
        return False

    def folded(self, stream: Stream) -> int | None:
        return None


def test_the_settings_of_kafka_s_clients_are_faust_s_too(tmp_path: Path) -> None:
    given = {
        "request.timeout.ms": "4000",
        "session.timeout.ms": "7000",
        "delivery.timeout.ms": "11000",
        "metadata.max.age.ms": "13000",
        "connections.max.idle.ms": "17000",
        "compression.type": "lz4",
    }

    async def configured() -> None:
        conf = application(KafkaSettings("127.0.0.1:9", given), tmp_path, Idle()).conf
        assert (conf.broker_request_timeout, conf.broker_session_timeout, conf.producer_request_timeout) == (7, 7, 11)
        assert conf.producer_metadata_max_age_ms == conf.consumer_metadata_max_age_ms == 13_000
        assert conf.producer_connections_max_idle_ms == conf.consumer_connections_max_idle_ms == 17_000
        assert conf.producer_compression_type == "lz4"

    asyncio.run(configured())


def test_a_row_that_does_not_arrive_is_waited_for_until_the_topics_are_shared_out_anew(tmp_path: Path) -> None:
    async def wait() -> None:
        table = application(KafkaSettings("127.0.0.1:9", {}), tmp_path, Idle()).tables["state"]
        assert isinstance(table, Table)
        under_way: FutureMessage = asyncio.get_running_loop().create_future()  # type: ignore[assignment]
        table._sent.append(under_way)
        storing = asyncio.create_task(table.stored())
        await asyncio.sleep(0)
        assert not storing.done()
        await table.on_rebalance(set(), set(), set())
        await storing
        assert not under_way.done()

    asyncio.run(wait())
