"""What waits for the writer is bounded, and the writer never waits for itself."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import SUBMIT_BYTES_MAX, Entry, Stream
from coordinator.logs.writer import QUEUED_BYTES_MAX
from coordinator.model.limits import LOG_VALUE_BYTES_MAX

PATIENCE_S = 60.0
LARGEST = [Entry(Stream.COMMANDS, 0, b"x" * LOG_VALUE_BYTES_MAX)] * (SUBMIT_BYTES_MAX // LOG_VALUE_BYTES_MAX)


def test_who_appends_too_fast_waits_but_the_writer_never_does(tmp_path: Path) -> None:
    with (
        closing(EmbeddedLog.create_or_open(tmp_path / "log", partitions={})) as log,
        ThreadPoolExecutor(1) as pool,
    ):
        held, full = Event(), Event()
        inner: Future[list[int]] = Future()

        def hold_the_writer(_: object) -> None:
            stop_following()
            held.set()
            full.wait(PATIENCE_S)
            appended = log.submit([Entry(Stream.REQUESTS, 0, b"")])
            appended.add_done_callback(lambda done: inner.set_result(done.result()))

        stop_following = log.follow(hold_the_writer)
        log.submit([Entry(Stream.PROGRESS, 0, b"")])
        held.wait(PATIENCE_S)
        queued = [log.submit(LARGEST) for _ in range(QUEUED_BYTES_MAX // SUBMIT_BYTES_MAX)]
        one_too_many = pool.submit(log.append, LARGEST)
        assert not one_too_many.done()
        full.set()
        assert inner.result(PATIENCE_S) == [0]
        assert one_too_many.result(PATIENCE_S)[0] == sum(len(future.result(PATIENCE_S)) for future in queued)
