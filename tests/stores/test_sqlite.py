"""What the SQLite file does beyond the contract: one owner, damage found, killed owners, a WAL that stays short."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from coordinator.model.effects import KILLED, REMOVED
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.model.filters import EMPTY
from coordinator.model.invocation import Payload
from coordinator.model.journal import Entry, StepKind
from coordinator.stores import checkpoints, lookups, ready, rows, schema
from coordinator.stores.lock import StoreInUseError
from coordinator.stores.port import Candidates, Condition, Scan, Slice
from coordinator.stores.reader import StoreReader
from coordinator.stores.sqlite import SqliteStore
from tests.stores.example import row

ALL = Scan(Candidates.ALL)
EVERY = Condition(EMPTY, 1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def insert(store: SqliteStore, first: int, count: int, payload: Payload | None = None) -> None:
    """Rows `first` and following, 500 a commit, with ids that scatter as real ones do."""
    for start in range(first, first + count, 500):
        store.begin()
        for seq in range(start, min(start + 500, first + count)):
            store.insert(row(seq, id=scattered(seq), key=f"k{seq % 50}", type=1), payload)
        store.commit()


def scattered(seq: int) -> str:
    return f"inv_{random.Random(seq).getrandbits(64):x}"


# -- one owner


def test_a_second_owner_is_refused_in_one_sentence(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreInUseError, match=r"^the store .*store is in use by process \d+; stop that one first$"):
        SqliteStore(path)
    assert issubclass(StoreInUseError, TransientError)


def test_a_closed_store_can_be_opened_again(path: Path) -> None:
    SqliteStore(path).close()
    SqliteStore(path).close()


def test_a_store_that_could_not_be_opened_is_not_locked(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)
    for _ in range(2):
        with pytest.raises(CorruptionError):
            SqliteStore(path)


OWNER = """
import sys
from pathlib import Path
from tests.stores.example import row
from coordinator.stores.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
seq = 0
while True:
    store.begin()
    for _ in range(50):
        seq += 1
        store.insert(row(seq), None)
        one = store.by_id(f"inv_{max(1, seq // 2)}")
        one.retry = one.seq
        store.save(one)
    store.save_state(str(seq).encode())
    store.commit()
    print(seq, flush=True)
"""


def test_a_killed_owner_leaves_what_it_committed_and_no_lock(path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as owner:
        assert owner.stdout is not None
        told = 0
        while told < 5_000:
            told = int(owner.stdout.readline())
        with pytest.raises(StoreInUseError):
            SqliteStore(path)
        owner.send_signal(signal.SIGKILL)
    store = SqliteStore(path)
    state = store.load_state()
    assert state is not None
    assert int(state) >= told
    seqs = [values[0] for table, values in store.dump() if table == "invocation"]
    assert seqs == list(range(1, int(state) + 1))
    assert all(store.by_id(f"inv_{seq}") == store.by_seq(seq) is not None for seq in range(1, int(state) + 1))
    store.close()


# -- damage


def overwrite_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for start in range(3 * 4096, len(content), 4096):
        content[start : start + 100] = b"\xa5" * 100
    path.write_bytes(content)


def overwrite_header(path: Path) -> None:
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])


def overwrite_an_index(path: Path) -> None:
    """Which nothing reads at the start."""
    connection = apsw.Connection(str(path))
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'invocation_created'").get
    connection.close()
    assert isinstance(page, int)
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def another_program(path: Path) -> None:
    path.unlink()
    apsw.Connection(str(path)).execute("CREATE TABLE t (a)")


def another_version(path: Path) -> None:
    apsw.Connection(str(path)).execute("PRAGMA user_version = 99")


def another_table(path: Path) -> None:
    apsw.Connection(str(path)).execute("ALTER TABLE invocation ADD COLUMN extra")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 10 * 4096])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (overwrite_pages, "is damaged"),
        (overwrite_header, "is damaged"),
        (overwrite_an_index, "is damaged"),
        (cut_short, "is damaged"),
        (another_program, "is not a store of this program"),
        (another_version, "has schema version 99, this build knows 2"),
        (another_table, "are not those of its version"),
    ],
)
def test_damage_is_found_at_the_start(path: Path, damage: Callable[[Path], None], words: str) -> None:
    store = SqliteStore(path)
    insert(store, 1, 500)
    store.close()
    damage(path)
    with pytest.raises(CorruptionError, match=words):
        SqliteStore(path)


def test_a_damaged_file_is_no_news_to_readers_either(path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(CorruptionError):
        StoreReader(path).state()


def test_every_table_is_in_the_storage_map() -> None:
    assert schema.__doc__ is not None
    made = [statement.split()[2] for statement in schema.STATEMENTS if statement.startswith("CREATE TABLE")]
    mapped = [line.split()[0] for line in schema.__doc__.splitlines() if line.startswith("    ") and line[4] != " "]
    assert mapped[2:] == made


# -- layout


def entries(path: Path, table: str) -> int:
    count = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY).execute(f"SELECT count(*) FROM {table}").get
    assert isinstance(count, int)
    return count


def test_rows_are_found_before_and_after_their_entries_are_merged(store: SqliteStore, path: Path) -> None:
    count = 3 * lookups.BUCKETS * 64
    insert(store, 1, count)
    for table in ("id_entry", "key_entry"):
        assert count // 2 < entries(path, table) < count
    for seq in (1, count // 2, count - 500, count):
        one = store.by_id(scattered(seq))
        assert one is not None
        assert one.seq == seq
    of_key = range(7, count, 50)
    end = store.slice_end(Scan(Candidates.KEY, service="Greeter", key="k7"), 0, count, count)
    assert end == (of_key[-1], len(of_key))


def test_rows_are_not_kept_in_memory_for_ever(store: SqliteStore) -> None:
    for first in range(1, 2 * rows.CACHED_ROWS_MAX, 500):
        insert(store, first, 500)
        assert len(store._by_seq) <= rows.CACHED_ROWS_MAX
        assert len(store._by_id) == len(store._by_seq)


@contextmanager
def statements(store: SqliteStore) -> Iterator[list[str]]:
    """What is executed inside the block."""
    executed: list[str] = []
    store._connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: executed.append(event["sql"]))
    yield executed
    store._connection.trace_v2(0)


NOTHING = ["BEGIN IMMEDIATE", "COMMIT"]


def test_what_begins_and_ends_within_a_run_is_not_written(store: SqliteStore) -> None:
    for position in range(3):
        with statements(store) as executed:
            store.begin()
            store.held_put(1, position, "Greeter")
            store.held_remove(1)
            store.ready_push("Greeter", position, 1)
            assert store.ready_pop("Greeter") == 1
            store.commit()
        assert executed == NOTHING
        for change in (lambda: store.held_put(1, 7, "Greeter"), lambda: store.held_remove(1)):
            store.begin()
            change()
            store.commit()


def test_what_is_held_is_written_once(store: SqliteStore) -> None:
    store.begin()
    store.held_put(1, 7, "Greeter")
    store.ready_push("Greeter", 1, 2)
    store.journal_put(1, Entry(step=0, kind=StepKind.RUN))
    store.commit()
    with statements(store) as executed:
        store.begin()
        store.commit()
    assert executed == NOTHING


def test_an_entry_that_is_replaced_within_a_run_is_written_once(store: SqliteStore) -> None:
    with statements(store) as executed:
        store.begin()
        for done in (False, True):
            store.journal_put(1, Entry(step=0, kind=StepKind.CALL, done=done))
            assert store.journal_entry(1, 0) == Entry(step=0, kind=StepKind.CALL, done=done)
        store.commit()
    assert len(executed) == len(NOTHING) + 1


def test_only_the_lanes_that_are_asked_for_are_read(path: Path) -> None:
    store = SqliteStore(path)
    store.begin()
    for ordinal in range(5_000):
        store.ready_push("served" if ordinal % 10 else "other", ordinal, ordinal)
    store.commit()
    store.close()
    store = SqliteStore(path)
    store.begin()
    with statements(store) as executed:
        taken = [store.ready_pop("served") for _ in range(1_000)]
    assert taken == [ordinal for ordinal in range(1_200) if ordinal % 10][:1_000]
    assert sum(sql.startswith("SELECT") for sql in executed) == 1_000 // ready.AHEAD
    store.close()


def test_entries_of_removed_rows_are_removed(store: SqliteStore, path: Path) -> None:
    count = 20_000
    insert(store, 1, count)
    before = entries(path, "id_entry")
    for after in range(0, count, 5_000):
        store.begin()
        store.sweep(Slice(ALL, after, after + 5_000), EVERY, REMOVED, 1, 1)
        store.commit()
    insert(store, count + 1, 64 * lookups.BUCKETS)
    assert before > 1_000
    assert entries(path, "id_entry") <= 64 * lookups.BUCKETS
    assert store.by_id(scattered(1)) is None


def test_the_wal_starts_over_while_there_is_work(store: SqliteStore, path: Path) -> None:
    insert(store, 1, 20_000, Payload(b"x" * 500))
    for number in range(40):
        store.begin()
        store.sweep(Slice(ALL, 0, 20_000), EVERY, KILLED, 1, number)
        store.commit()
    wal = Path(f"{path}-wal")
    pages_of_a_commit = 20_000 // 20
    assert wal.stat().st_size < (checkpoints.WAL_PAGES_MAX + 2 * pages_of_a_commit) * 4_200


def test_a_reader_in_a_snapshot_holds_up_nothing(store: SqliteStore, path: Path) -> None:
    insert(store, 1, 500)
    reader = StoreReader(path)
    with reader.snapshot():
        before = list(reader.dump())
        insert(store, 501, 5_000)
        store.begin()
        store.sweep(Slice(ALL, 0, 5_500), EVERY, KILLED, 1, 7)
        store.commit()
        assert list(reader.dump()) == before
    assert list(reader.dump()) == list(store.dump())
    reader.close()
