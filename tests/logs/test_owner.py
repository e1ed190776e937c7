"""One process owns a log; the others use it through that one, until either goes."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import (
    Entry,
    LogError,
    LogGoneError,
    LogLockedError,
    PartitionsDifferError,
    Stream,
)
from coordinator.logs.remote import LogServer, RemoteLog
from tests.logs.processes import PARTITIONS, append_remotely, open_it, own, said, started

PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
    yield opened
    opened.close()


def one(value: bytes = b"x") -> list[Entry]:
    return [Entry(Stream.COMMANDS, 0, value)]


def values(log: EmbeddedLog | RemoteLog) -> list[bytes]:
    return [record.value for record in log.read(Stream.COMMANDS, 0, 0, records_max=10_000, bytes_max=1 << 30)]


class TestOpening:
    def test_a_second_owner_is_refused(self, log: EmbeddedLog, path: Path) -> None:
        with pytest.raises(LogLockedError, match=f"held by process {os.getpid()}; stop it, or use another"):
            EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
        with started(open_it.__name__, path) as process:
            error, text = said(process)
        assert (error, str(os.getpid()) in text) == ("LogLockedError", True)
        assert log.append(one()) == [0]

    def test_the_next_owner_comes_when_the_first_has_closed(self, log: EmbeddedLog, path: Path) -> None:
        log.close()
        with started(open_it.__name__, path) as process:
            assert said(process) == ["opened", ""]

    def test_other_numbers_of_partitions_are_refused_and_leave_the_log_alone(self, path: Path) -> None:
        EmbeddedLog.create_or_open(path, partitions={Stream.COMMANDS: 2}).close()
        with pytest.raises(PartitionsDifferError, match=r"commands=2.* not with commands=4"):
            EmbeddedLog.create_or_open(path, partitions={Stream.COMMANDS: 4})
        EmbeddedLog.create_or_open(path, partitions={Stream.COMMANDS: 2}).close()

    @pytest.mark.parametrize("count", [0, -1, 257])
    def test_numbers_that_no_log_has_are_refused(self, path: Path, count: int) -> None:
        with pytest.raises(ValueError, match=f"commands={count}"):
            EmbeddedLog.create_or_open(path, partitions={Stream.COMMANDS: count})

    def test_a_file_that_is_no_log_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"somebody else's notes, longer than the header of a database" * 100)
        with pytest.raises(LogError, match="cannot be opened as a log"):
            EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
        path.unlink()
        with apsw.Connection(str(path)) as other:
            other.execute("CREATE TABLE meta (name, value)")
        other.close()
        with pytest.raises(LogError, match="format None"):
            EmbeddedLog.create_or_open(path, partitions=PARTITIONS)

    def test_a_log_of_another_format_is_refused(self, path: Path) -> None:
        EmbeddedLog.create_or_open(path, partitions=PARTITIONS).close()
        with apsw.Connection(str(path)) as connection:
            connection.execute("UPDATE meta SET value = '2' WHERE name = 'format'")
        connection.close()
        with pytest.raises(LogError, match="format 2, this build knows 1"):
            EmbeddedLog.create_or_open(path, partitions=PARTITIONS)


class TestWal:
    def test_it_stays_short_under_load(self, log: EmbeddedLog, path: Path) -> None:
        for _ in range(100):
            log.append(one(b"x" * 5_000) * 100)
        assert os.path.getsize(f"{path}-wal") < 8 << 20

    def test_a_reader_that_stands_still_stops_nobody(self, log: EmbeddedLog, path: Path) -> None:
        log.append(one() * 10)
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows = reader.execute('SELECT position FROM "commands/0" ORDER BY position')
        assert next(rows) == (0,)
        for _ in range(100):
            log.append(one(b"x" * 5_000) * 100)
        assert os.path.getsize(f"{path}-wal") > 40 << 20
        assert len(list(rows)) == 9, "its snapshot moved"
        reader.close()
        for _ in range(20):
            log.append(one(b"x" * 5_000) * 100)
        assert os.path.getsize(f"{path}-wal") <= 32 << 20, "it was not cut"


class TestProcesses:
    def test_several_append_through_one_owner(self, log: EmbeddedLog, path: Path) -> None:
        server = LogServer(log)
        pairs = [socket.socketpair() for _ in range(2)]
        with (
            started(append_remotely.__name__, path, pairs[0][1].fileno(), "a", 500, sockets=[pairs[0][1]]) as a,
            started(append_remotely.__name__, path, pairs[1][1].fileno(), "b", 500, sockets=[pairs[1][1]]) as b,
        ):
            for ours, theirs in pairs:
                theirs.close()
                server.attach(ours)
            positions = {"a": said(a), "b": said(b)}
            found = values(log)
            assert len(found) == 1_000
            for name, own_positions in positions.items():
                assert own_positions == sorted(own_positions)
                assert [found[each] for each in own_positions] == [b"%s %d" % (name.encode(), n) for n in range(500)]
            # One goes; the owner and the other one go on.
            a.kill()
            a.wait()
            assert log.append(one()) == [1_000]
            server.close()
            assert b.wait(PATIENCE_S) == 3, "it did not see that its owner let go"

    def test_the_owner_s_death_is_seen(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        gone = threading.Event()
        with started(own.__name__, path, theirs.fileno(), sockets=[theirs]) as owner, ThreadPoolExecutor(1) as pool:
            theirs.close()
            assert said(owner) == "serving"
            log = RemoteLog(path, ours, on_gone=gone.set)
            log.append(one(b"acknowledged"))
            waiting = pool.submit(log.wait, Stream.COMMANDS, 0, 1, PATIENCE_S)
            owner.send_signal(signal.SIGSTOP)
            outstanding = [log.submit(one(b"never written")) for _ in range(10)]
            owner.kill()
            for future in outstanding:
                with pytest.raises(LogGoneError):
                    future.result(PATIENCE_S)
            with pytest.raises(LogGoneError):
                waiting.result(PATIENCE_S)
            assert gone.wait(PATIENCE_S)
        for call in (
            lambda: log.append(one()),
            lambda: log.trim(Stream.COMMANDS, 0, 1),
            lambda: log.wait(Stream.COMMANDS, 0, 0, 0),
        ):
            with pytest.raises(LogGoneError):
                call()
        assert values(log) == [b"acknowledged"]
        with pytest.raises(LogGoneError):
            RemoteLog(path, ours)
        log.close()

    def test_closing_is_not_the_owner_s_death(self, log: EmbeddedLog, path: Path) -> None:
        server = LogServer(log)
        ours, theirs = socket.socketpair()
        server.attach(ours)
        gone = threading.Event()
        remote = RemoteLog(path, theirs, on_gone=gone.set)
        remote.append(one())
        remote.close()
        assert not gone.is_set()
        server.close()


class TestConnection:
    def test_a_log_that_the_owner_does_not_own_is_refused(self, log: EmbeddedLog, tmp_path: Path) -> None:
        other = tmp_path / "other"
        EmbeddedLog.create_or_open(other, partitions=PARTITIONS).close()
        server = LogServer(log)
        ours, theirs = socket.socketpair()
        server.attach(ours)
        with pytest.raises(LogError, match="not the log that the other end serves"):
            RemoteLog(other, theirs)
        server.close()

    def test_a_path_without_a_log_is_refused(self, tmp_path: Path) -> None:
        _, theirs = socket.socketpair()
        with pytest.raises(LogError, match="there is no log"):
            RemoteLog(tmp_path / "nothing", theirs)

    @pytest.mark.parametrize(
        "sent",
        [
            b"\xff\xff\xff\xff" + b"x" * 100,  # a frame larger than any
            b"\x00\x00\x00\x03abc",  # no message
            b"\x00\x00\x00\x64abc",  # half a frame
            b"\x00",  # half a head
        ],
    )
    def test_what_is_no_frame_ends_the_connection_and_only_it(self, log: EmbeddedLog, path: Path, sent: bytes) -> None:
        server = LogServer(log)
        ours, theirs = socket.socketpair()
        server.attach(ours)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        assert theirs.recv(1) == b""
        mine, other = socket.socketpair()
        server.attach(mine)
        remote = RemoteLog(path, other)
        assert remote.append(one()) == [0]
        remote.close()
        server.close()

    def test_the_owner_s_refusal_comes_with_its_reason(self, log: EmbeddedLog, path: Path) -> None:
        server = LogServer(log)
        ours, theirs = socket.socketpair()
        server.attach(ours)
        remote = RemoteLog(path, theirs)
        log.close()
        with pytest.raises(LogError, match="the log is closed"):
            remote.append(one())
        with pytest.raises(LogError, match="the log is closed"):
            remote.trim(Stream.COMMANDS, 0, 0)
        remote.close()
        server.close()
