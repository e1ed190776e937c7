"""Who may have a data directory, and what is said to those who may not."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.port import LogError, LogLockedError
from coordinator.model.errors import CallerError
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.serve import Role
from coordinator.runtime.serve_on_kafka import running_on_kafka


def test_stores_without_a_log_are_left_alone_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.store(1).write_bytes(b"of a worker on Kafka")
    with pytest.raises(CallerError, match=r"has stores but no log\.sqlite.*give --log kafka://… as before, or another"):
        data.open_log(None)
    assert list(tmp_path.iterdir()) == [data.store(1)]
    assert data.store(1).read_bytes() == b"of a worker on Kafka"


def test_stores_with_their_log_are_opened(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.open_log(2).close()
    data.store(1).touch()
    with closing(data.open_log(None)) as log:
        assert log.identity


def test_who_reads_a_log_that_is_on_kafka_is_told_where_it_may_be(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with pytest.raises(CallerError, match=r"was started with$"), data.read_log():
        pass
    data.store(0).touch()
    with (
        pytest.raises(CallerError, match=r"was started with, or --log kafka://… where it is on Kafka$"),
        data.read_log(),
    ):
        pass


def test_a_directory_belongs_to_one_process_on_whichever_log(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    held = data.lock()
    for another in (data.lock, lambda: data.open_log(1)):
        with pytest.raises(LogLockedError, match=f"held by process {os.getpid()}; stop it, or use another directory"):
            another()
    held.release()
    with closing(data.open_log(1)), pytest.raises(LogLockedError):
        data.lock()
    data.lock().release()


def test_a_directory_that_cannot_be_locked_cannot_be_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite.lock").mkdir()
    with pytest.raises(CallerError, match="cannot be the data directory"):
        DataDirectory(tmp_path).lock()


@pytest.mark.parametrize("role", list(Role))
def test_on_kafka_who_keeps_data_takes_the_directory_before_all_else_and_lets_it_go(tmp_path: Path, role: Role) -> None:
    data = DataDirectory(tmp_path)
    settings = KafkaSettings("127.0.0.1:1")  # nobody answers there

    async def start() -> None:
        async with running_on_kafka(settings, data, {role}, "127.0.0.1:9070"):
            pass

    held = data.lock()
    with pytest.raises(LogError) as refused:
        asyncio.run(start())
    assert isinstance(refused.value, LogLockedError) == (role is not Role.HTTP)
    held.release()
    with pytest.raises(LogError) as refused:
        asyncio.run(start())
    assert not isinstance(refused.value, LogLockedError)
    data.lock().release()
