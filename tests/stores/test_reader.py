"""Reading beside the owner: every row once, in order, whatever happens meanwhile, from any thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from coordinator.model.errors import TransientError
from coordinator.model.filters import EMPTY, Filter
from coordinator.model.invocation import Invocation, Payload
from coordinator.model.journal import Entry, StepKind
from coordinator.stores import copies
from coordinator.stores.reader import CHUNK, StoreReader
from coordinator.stores.sqlite import SqliteStore
from tests.stores.example import row


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def reader(store: SqliteStore, tmp_path: Path) -> Iterator[StoreReader]:
    opened = StoreReader(tmp_path / "store")
    yield opened
    opened.close()


def insert(store: SqliteStore, first: int, last: int, created_at: int | None = None) -> None:
    store.begin()
    for seq in range(first, last + 1):
        store.insert(row(seq, created_at=seq if created_at is None else created_at), None)
    store.commit()


def test_before_the_owner_has_made_the_file_there_is_nothing(tmp_path: Path) -> None:
    reader = StoreReader(tmp_path / "none")
    assert reader.state() is None
    assert reader.batches() == []
    assert reader.invocation("inv_1") is None
    assert reader.payload(1) == Payload()
    assert reader.journal(1, after=-1, limit=9) == []
    assert list(reader.rows(EMPTY, after=None, limit=None)) == []
    assert not (tmp_path / "none").exists()
    SqliteStore(tmp_path / "none").close()
    assert list(reader.dump()) == []


def test_only_what_is_committed_is_seen(store: SqliteStore, reader: StoreReader) -> None:
    store.begin()
    payload = Payload(b"in", {"a": "b"}, b"out", 1, "inv_0", "inv_9")
    store.insert(row(1), payload)
    entries = [Entry(step=step, kind=StepKind.RUN) for step in range(4)]
    for entry in entries:
        store.journal_put(1, entry)
    store.save_state(b"state")
    store.batch_put(3, "request", b"batch")
    store.add_member(3, 1)
    list(store.dump())
    assert (reader.invocation("inv_1"), reader.state(), reader.batches()) == (None, None, [])
    assert reader.journal(1, after=-1, limit=9) == []
    store.commit()
    assert reader.invocation("inv_1") == row(1)
    assert reader.payload(1) == payload
    assert reader.journal(1, after=-1, limit=2) == entries[:2]
    assert reader.journal(1, after=1, limit=9) == entries[2:]
    assert reader.state() == b"state"
    assert reader.batches() == [(3, "request", b"batch")]
    assert [reader.is_member(3, seq) for seq in (1, 2)] == [True, False]


@pytest.mark.parametrize("created_at", [None, 7])
def test_a_listing_goes_over_many_chunks_newest_first_then_by_id(
    store: SqliteStore, reader: StoreReader, created_at: int | None
) -> None:
    count = 2 * CHUNK + 1
    insert(store, 1, count, created_at)
    listed = list(reader.rows(EMPTY, after=None, limit=None))
    assert len(listed) == count
    assert listed == sorted(listed, key=lambda one: (-one.created_at, one.id))
    assert list(reader.rows(EMPTY, after=None, limit=CHUNK + 1)) == listed[: CHUNK + 1]
    last = listed[CHUNK]
    assert list(reader.rows(EMPTY, after=(last.created_at, last.id), limit=None)) == listed[CHUNK + 1 :]


def test_a_listing_goes_on_behind_its_last_row_whatever_comes_and_goes(store: SqliteStore, reader: StoreReader) -> None:
    insert(store, 1, 3 * CHUNK)
    rows = reader.rows(EMPTY, after=None, limit=None)
    seqs = [next(rows).seq]
    insert(store, 3 * CHUNK + 1, 4 * CHUNK)
    store.begin()
    for seq in range(1, CHUNK // 2 + 1):
        one = store.by_seq(seq)
        assert one is not None
        store.remove(one)
    store.commit()
    seqs += [one.seq for one in rows]
    assert seqs == list(range(3 * CHUNK, CHUNK // 2, -1))


def test_a_listing_in_a_snapshot_is_of_one_moment(store: SqliteStore, reader: StoreReader) -> None:
    insert(store, 1, 2 * CHUNK)
    with reader.snapshot():
        rows = reader.rows(Filter(status=("ready",)), after=None, limit=None)
        seqs = [next(rows).seq]
        store.begin()
        one = store.by_seq(1)
        assert one is not None
        store.remove(one)
        store.commit()
        seqs += [one.seq for one in rows]
        assert reader.invocation("inv_1") is not None
    assert seqs == list(range(2 * CHUNK, 0, -1))
    assert reader.invocation("inv_1") is None


def test_a_listing_that_nobody_goes_on_with_holds_nothing_up(store: SqliteStore, reader: StoreReader) -> None:
    insert(store, 1, 2 * CHUNK)
    rows = reader.rows(EMPTY, after=None, limit=None)
    next(rows)
    insert(store, 2 * CHUNK + 1, 3 * CHUNK)
    left, copied = store._connection.wal_checkpoint()
    assert left == copied


def test_threads_read_at_once(store: SqliteStore, reader: StoreReader) -> None:
    insert(store, 1, CHUNK)

    def read(seq: int) -> bool:
        return reader.invocation(f"inv_{seq}") == row(seq)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(1, CHUNK + 1)))


def test_a_query_under_way_goes_on_while_the_reader_is_closed_and_its_connection_closes_with_it(
    tmp_path: Path,
) -> None:
    store, reader = SqliteStore(tmp_path / "store"), StoreReader(tmp_path / "store")
    insert(store, 1, 2 * CHUNK)
    begun, closed = Barrier(2), Event()

    def list_slowly() -> int:
        with reader.snapshot():
            rows = reader.rows(EMPTY, after=None, limit=None)
            next(rows)
            begun.wait()
            closed.wait()
            return 1 + sum(1 for _ in rows)

    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(list_slowly)
        begun.wait()
        reader.close()
        closed.set()
        assert listing.result() == 2 * CHUNK
    with pytest.raises(TransientError, match="is not read here any more"):
        reader.invocation("inv_1")
    store.close()
    assert not (tmp_path / "store-wal").exists(), "somebody has the file open"


def test_the_reader_is_closed_while_sqlite_is_in_the_middle_of_a_step(store: SqliteStore, reader: StoreReader) -> None:
    insert(store, 1, 2 * CHUNK)
    asked = Filter(service="none", status=("ready",))  # passes over rows until it has been asked to end
    stepping, closed = Event(), Event()

    def step() -> list[Invocation]:
        with reader._query_of_thread() as connection:
            assert connection is not None
            connection.set_progress_handler(lambda: (stepping.set(), closed.wait())[1] is False, 1)
            return list(reader.rows(asked, after=None, limit=None))

    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(step)
        stepping.wait()
        reader.close()
        closed.set()
        assert listing.result() == []


def test_a_file_that_was_put_in_the_place_of_the_old_one_is_read_from_then_on(
    store: SqliteStore, reader: StoreReader, tmp_path: Path
) -> None:
    insert(store, 1, 3)
    assert len(list(reader.rows(EMPTY, after=None, limit=None))) == 3
    other = tmp_path / "other"
    copies.copy(tmp_path / "store", other)
    longer = SqliteStore(other)
    insert(longer, 4, 5)
    longer.close()
    with reader.snapshot():
        assert len(list(reader.rows(EMPTY, after=None, limit=None))) == 3
        copies.put_in_place(other, tmp_path / "store")
        assert len(list(reader.rows(EMPTY, after=None, limit=None))) == 3
    assert len(list(reader.rows(EMPTY, after=None, limit=None))) == 5
