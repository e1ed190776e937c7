"""Snapshots: what take-over does with good and bad ones, what is trimmed, and what `check` makes of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import apsw
import pytest
import structlog
import xxhash

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Stream
from coordinator.model.errors import CallerError, CorruptionError, TransientError
from coordinator.model.limits import SECOND_US
from coordinator.runtime.check import check
from coordinator.runtime.snapshots import apart, making, recovery
from coordinator.runtime.snapshots.keeper import SnapshotKeeper
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.stores import copies
from coordinator.stores.archive import SnapshotArchive, SnapshotGoneError, SnapshotName
from coordinator.stores.sqlite import SqliteStore
from tests.snapshots import Partition, damage

Logged = list[structlog.typing.EventDict]


@pytest.fixture
def archive(tmp_path: Path) -> SnapshotArchive:
    return SnapshotArchive(str(tmp_path / "archive"), make=True)


@pytest.fixture
def partition(tmp_path: Path, archive: SnapshotArchive) -> Iterator[Partition]:
    opened = Partition(tmp_path / "data", archive)
    yield opened
    opened.close()


@pytest.fixture
def said() -> Iterator[Logged]:
    with structlog.testing.capture_logs() as events:
        yield events


def first(partition: Partition) -> int:
    return partition.log.bounds(Stream.COMMANDS, 0).first


def passed_over(said: Logged) -> list[int]:
    return [event["position"] for event in said if event["event"] == "snapshot passed over"]


def object_of(archive: SnapshotArchive, name: SnapshotName) -> Path:
    return Path(archive.place) / name.key


# -- take-over


def test_a_partition_without_its_store_goes_on_from_a_snapshot_as_if_it_had_it(partition: Partition) -> None:
    partition.grow(30)
    partition.snapshot()
    partition.grow(20)
    before = partition.dump()
    partition.lose_store()
    partition.log.trim(Stream.COMMANDS, 0, 29)  # so that it cannot have been replayed from the beginning

    owner = partition.apply()

    assert (owner.failure, owner.records) == (None, 20)
    assert partition.dump() == before


def test_a_store_that_is_there_is_not_touched_by_a_newer_snapshot(partition: Partition) -> None:
    partition.grow(10)
    old = partition.path.read_bytes()
    partition.grow(10)
    partition.snapshot()
    partition.lose_store()
    partition.path.write_bytes(old)
    assert partition.apply().records == 10


def test_a_store_to_which_the_log_no_longer_reaches_back_is_replaced(partition: Partition) -> None:
    partition.grow(10)
    old = partition.path.read_bytes()
    partition.grow(20)
    partition.snapshot()
    partition.grow(5)
    before = partition.dump()
    partition.log.trim(Stream.COMMANDS, 0, 29)
    partition.lose_store()
    partition.path.write_bytes(old)

    owner = partition.apply()

    assert (owner.failure, owner.records) == (None, 5)
    assert partition.dump() == before


@pytest.mark.parametrize(
    ("before", "times"),
    [
        pytest.param("read", 1, id="before it reads on, behind the record of the store's position"),
        pytest.param("bounds", 2, id="before it looks at the store, which was opened as the log reached back to it"),
    ],
)
def test_a_log_that_is_trimmed_under_a_take_over_makes_it_begin_anew_from_the_snapshot(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, before: str, times: int, said: Logged
) -> None:
    # As when the owner before finishes a snapshot: after it was looked whether the log reaches back to the store.
    partition.grow(10)
    old = partition.path.read_bytes()
    partition.grow(20)
    partition.snapshot()
    partition.grow(5)
    dump = partition.dump()
    partition.lose_store()
    partition.path.write_bytes(old)
    real: Callable[..., object] = getattr(EmbeddedLog, before)
    asked = iter(range(100))

    def trimmed(log: EmbeddedLog, *arguments: object, **named: object) -> object:
        if next(asked) == times:
            log.trim(Stream.COMMANDS, 0, 29)
        return real(log, *arguments, **named)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(EmbeddedLog, before, trimmed)
        owner = partition.apply()

    assert (owner.failure, owner.records) == (None, 5)
    assert partition.dump() == dump
    assert [event["first"] for event in said if event["event"].startswith("log trimmed ahead")] == [29]


def test_of_an_old_file_nothing_is_left_that_sqlite_would_apply_to_the_new_one(partition: Partition) -> None:
    partition.grow(30)
    partition.snapshot()
    before = partition.dump()
    store = SqliteStore(partition.path)
    store.begin()
    store.save_state(b"of the old file")
    store.commit()
    wal = copies.beside(partition.path)[0]
    left = wal.read_bytes()
    assert left
    store.close()
    partition.path.unlink()
    wal.write_bytes(left)
    assert partition.apply().failure is None
    assert partition.dump() == before


def test_a_damaged_snapshot_is_passed_over_and_the_next_older_one_is_used(
    partition: Partition, archive: SnapshotArchive, said: Logged
) -> None:
    partition.grow(10)
    partition.snapshot()
    partition.grow(10)
    damage(object_of(archive, partition.snapshot()))
    before = partition.dump()
    partition.lose_store()

    owner = partition.apply()

    assert (owner.failure, owner.records) == (None, 10)
    assert passed_over(said) == [19]
    assert partition.dump() == before


def test_bytes_are_compared_with_the_name_even_where_they_would_do(
    partition: Partition, archive: SnapshotArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(10)
    name = partition.snapshot()
    with monkeypatch.context() as otherwise:
        otherwise.setattr(copies, "_LEVEL", 3)
        copies.pack(partition.path, object_of(archive, name))
    with pytest.raises(CorruptionError, match="does not have the bytes that it was made with"):
        making.fetch(name, archive, tmp_path)


def test_an_object_that_holds_another_snapshot_than_its_name_says_is_passed_over(
    partition: Partition, archive: SnapshotArchive, said: Logged, tmp_path: Path
) -> None:
    partition.grow(10)
    name = partition.snapshot()
    partition.grow(10)
    [record] = partition.log.read(Stream.COMMANDS, 0, 19, records_max=1, bytes_max=1)
    lie = SnapshotName(name.log, 0, 19, xxhash.xxh3_64_intdigest(record.value), name.sha256)
    archive.put(lie, object_of(archive, name))
    partition.lose_store()
    assert partition.apply().records == 10
    assert passed_over(said) == [19]


def test_a_snapshot_of_a_damaged_page_is_not_used_although_its_bytes_are_those_it_was_made_with(
    partition: Partition, archive: SnapshotArchive, tmp_path: Path, said: Logged
) -> None:
    partition.grow(200)
    good = partition.snapshot()
    copy, packed = tmp_path / "copy", tmp_path / "packed"
    assert archive.get(good, packed)
    copies.unpack(packed, copy)
    connection = apsw.Connection(str(copy))
    page = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'invocation_created'").get)
    size = int(connection.pragma("page_size"))
    connection.close()
    content = bytearray(copy.read_bytes())
    content[(page - 1) * size : page * size] = b"\xa5" * size
    copy.write_bytes(content)
    copies.pack(copy, packed)
    bad = SnapshotName(good.log, 0, good.position, good.record, copies.sha256(packed))
    archive.delete(good)
    archive.put(bad, packed)
    partition.lose_store()
    assert partition.apply().records == 200
    assert passed_over(said) == [199]


def test_a_snapshot_of_another_log_is_none_of_this_one(partition: Partition, tmp_path: Path) -> None:
    other = Partition(tmp_path / "other", partition.archive)
    other.grow(30)
    other.snapshot()
    other.close()
    partition.append(10)
    assert partition.apply().records == 10


def test_a_snapshot_that_is_ahead_of_a_log_that_was_set_back_is_passed_over(
    partition: Partition, archive: SnapshotArchive, said: Logged, tmp_path: Path
) -> None:
    partition.grow(10)
    source = apsw.Connection(str(partition.data.log))
    backup = apsw.Connection(str(tmp_path / "backup"))
    with backup.backup("main", source, "main") as copying:
        copying.step()
    partition.grow(20)
    partition.snapshot()
    partition.close()
    for path in partition.data.path.iterdir():
        path.unlink()
    (tmp_path / "backup").rename(partition.data.log)

    again = Partition(partition.data.path, archive)
    assert again.apply().records == 10
    assert passed_over(said) == [29]
    # And when the log has grown beyond it, with other records.
    again.append(100)
    again.lose_store()
    assert again.apply().records == 110
    assert passed_over(said) == [29, 29]
    again.close()


@pytest.mark.parametrize("store_is_there", [True, False])
def test_a_log_that_no_snapshot_reaches_stops_the_partition_with_what_to_do(
    partition: Partition, store_is_there: bool
) -> None:
    partition.grow(10)
    partition.snapshot()
    old = partition.path.read_bytes()
    partition.grow(20)
    partition.log.trim(Stream.COMMANDS, 0, 20)
    partition.lose_store()
    if store_is_there:
        partition.path.write_bytes(old)
    failure = partition.apply().failure
    assert failure == (
        f"the log of partition 0 begins at 20, its store ends at {9 if store_is_there else -1}, and no snapshot in "
        f"{partition.archive.place if partition.archive else ''} can be used in between; put back a snapshot of log "
        f"{partition.log.identity} from position 19 on, or a copy of the store that is as new"
    )


def test_without_an_archive_a_trimmed_log_stops_the_partition_with_what_to_do(tmp_path: Path) -> None:
    partition = Partition(tmp_path, None)
    partition.append(30)
    partition.log.trim(Stream.COMMANDS, 0, 20)
    failure = partition.apply().failure
    partition.close()
    assert failure is not None
    assert failure.startswith(
        "partition 0 is applied up to position -1 but its log begins at 20: records are missing; "
    )
    assert "one of position 19 or later" in failure


def test_an_archive_that_cannot_be_reached_is_not_needed_while_the_log_is_whole(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, said: Logged
) -> None:
    partition.append(30)
    monkeypatch.setattr(SnapshotArchive, "list", unreachable)
    assert partition.apply().records == 30
    assert "snapshots cannot be reached, replaying the log" in [event["event"] for event in said]


def test_an_archive_that_is_needed_is_waited_for(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    partition.grow(30)
    partition.snapshot()
    partition.log.trim(Stream.COMMANDS, 0, 29)
    partition.lose_store()
    partition.append(1)
    real, times = SnapshotArchive.list, iter(range(2))

    def at_last(*arguments: object) -> object:
        return real(*arguments) if next(times, None) is None else unreachable()  # type: ignore[arg-type]

    monkeypatch.setattr(SnapshotArchive, "list", at_last)
    assert partition.apply().records == 1


def test_a_snapshot_that_is_removed_meanwhile_is_not_missed(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(10)
    names = [partition.snapshot()]
    partition.grow(10)
    names.append(partition.snapshot())
    partition.log.trim(Stream.COMMANDS, 0, 5)
    partition.lose_store()
    partition.append(1)
    listed = archive.list()
    for name in names[:1]:
        archive.delete(name)
    monkeypatch.setattr(SnapshotArchive, "list", lambda *_: listed)
    name, _ = next(recovery.usable(partition.log, 0, archive, partition.data.path, oldest=True))
    assert name == names[1]
    archive.delete(names[1])
    with pytest.raises(SnapshotGoneError):
        list(recovery.usable(partition.log, 0, archive, partition.data.path))


def unreachable(*_: object) -> None:
    raise TransientError("the snapshots in nowhere cannot be used for now: it is gone")


# -- making


def test_a_snapshot_that_does_not_arrive_as_it_was_sent_is_an_error_and_is_not_left(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(10)
    real = SnapshotArchive.put

    def corrupting(self: SnapshotArchive, name: SnapshotName, file: Path) -> None:
        damage(file)
        real(self, name, file)

    monkeypatch.setattr(SnapshotArchive, "put", corrupting)
    with pytest.raises(CorruptionError, match="did not arrive"):
        partition.snapshot()
    assert archive.list() == []


def test_what_a_killed_process_has_left_is_in_nobodys_way(partition: Partition) -> None:
    partition.grow(10)
    left = partition.data.snapshot(0)
    left.mkdir()
    (left / "copy.sqlite").write_bytes(b"half of")
    partition.snapshot()
    assert not left.exists()


def test_a_store_that_was_replaced_while_it_was_copied_gives_no_snapshot(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    partition.grow(10)
    files = iter((1, 2))
    monkeypatch.setattr(copies, "_file", lambda _: next(files))
    with pytest.raises(TransientError, match="was replaced"):
        partition.snapshot()


# -- in a process of its own


def test_what_another_process_makes_is_the_same(partition: Partition, archive: SnapshotArchive) -> None:
    partition.grow(10)
    name = apart.create(partition.path, archive, partition.data.snapshot(0))
    assert [listed.name for listed in archive.list()] == [name]
    assert (name.log, name.position) == (partition.log.identity, 9)


def test_what_goes_wrong_in_another_process_is_raised_here(partition: Partition, archive: SnapshotArchive) -> None:
    with pytest.raises(TransientError, match="there is no store"):
        apart.create(partition.path, archive, partition.data.snapshot(0))
    partition.path.write_bytes(b"no store at all" * 1_000)
    with pytest.raises(CorruptionError, match="is damaged"):
        apart.create(partition.path, archive, partition.data.snapshot(0))


def test_a_process_that_was_killed_has_made_none(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(1)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(TransientError, match="has ended with code 1"):
        apart.create(partition.path, archive, partition.data.snapshot(0))


def test_it_ends_when_who_has_started_it_ends(partition: Partition, archive: SnapshotArchive) -> None:
    os.mkfifo(partition.path)  # so that it never gets to the end of reading it
    command = [
        sys.executable,
        "-m",
        apart.__name__,
        str(partition.path),
        archive.place,
        str(partition.data.snapshot(0)),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 1


# -- keeping


class Keeping:
    """A keeper with a clock that the test sets."""

    def __init__(self, partition: Partition, archive: SnapshotArchive, **policy: int) -> None:
        self.now = 1_000 * SECOND_US
        self.archive = archive
        settings = SnapshotPolicy(archive.place, **policy)
        self.keeper = SnapshotKeeper(
            partition.log, partition.data, archive, settings, create=making.create, now_us=lambda: self.now
        )
        self.keeper.watch(0)

    def look(self) -> list[int]:
        """Let it look after the partition; the positions of the snapshots that there are."""
        self.keeper.look(0)
        return [listed.name.position for listed in self.archive.list()]


def test_a_snapshot_is_made_after_so_many_records(partition: Partition, archive: SnapshotArchive) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    assert keeping.look() == []
    partition.grow(9)
    assert keeping.look() == []
    partition.grow(1)
    assert keeping.look() == [9]
    assert keeping.look() == [9]
    partition.grow(9)
    assert keeping.look() == [9]
    partition.grow(3)
    assert keeping.look() == [21, 9]


def test_a_snapshot_is_made_after_so_long_if_there_was_anything(partition: Partition, archive: SnapshotArchive) -> None:
    keeping = Keeping(partition, archive, every_us=60 * SECOND_US)
    partition.grow(1)
    assert keeping.look() == []
    keeping.now += 60 * SECOND_US
    assert keeping.look() == [0]
    keeping.now += 60 * SECOND_US
    assert keeping.look() == [0]
    partition.grow(1)
    assert keeping.look() == [1, 0]


def test_the_newest_stay_and_the_log_is_trimmed_below_the_oldest_of_them(
    partition: Partition, archive: SnapshotArchive
) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(10)
    assert (keeping.look(), first(partition)) == ([9], 0)
    partition.grow(10)
    assert (keeping.look(), first(partition)) == ([19, 9], 9)
    partition.grow(10)
    assert (keeping.look(), first(partition)) == ([29, 19], 19)
    before = partition.dump()
    partition.lose_store()
    assert partition.apply().failure is None
    assert partition.dump() == before


def test_more_may_stay(partition: Partition, archive: SnapshotArchive) -> None:
    keeping = Keeping(partition, archive, every_records=10, keep=3)
    for _ in range(4):
        partition.grow(10)
        keeping.look()
    assert (keeping.look(), first(partition)) == ([39, 29, 19], 19)


def test_the_log_is_not_trimmed_on_the_word_of_a_damaged_snapshot(
    partition: Partition, archive: SnapshotArchive, said: Logged
) -> None:
    partition.grow(10)
    damage(object_of(archive, partition.snapshot()))  # another process made it; this one has never seen it whole
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(10)
    assert (keeping.look(), first(partition)) == ([19, 9], 0)
    assert 9 in passed_over(said)
    partition.grow(10)
    assert (keeping.look(), first(partition)) == ([29, 19], 19)


def test_a_snapshot_of_a_partition_that_is_let_go_meanwhile_leaves_the_log_to_the_next_owner(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(10)
    partition.snapshot()
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(10)
    real = SnapshotArchive.put

    def let_go(self: SnapshotArchive, name: SnapshotName, file: Path) -> None:
        keeping.keeper.unwatch(0)
        real(self, name, file)

    monkeypatch.setattr(SnapshotArchive, "put", let_go)
    assert (keeping.look(), first(partition)) == ([19, 9], 0)


def test_a_keeper_goes_on_where_another_has_left_off(partition: Partition, archive: SnapshotArchive) -> None:
    partition.grow(10)
    partition.snapshot()
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(9)
    assert keeping.look() == [9]
    kept = keeping.keeper.kept(0)
    assert kept.position == 9
    assert kept.at is not None


def test_a_failure_is_counted_said_and_tried_again_a_minute_later(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch, said: Logged
) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(10)
    with monkeypatch.context() as broken:
        broken.setattr(SnapshotArchive, "put", unreachable)
        assert keeping.look() == []
    assert keeping.keeper.kept(0).failures == 1
    assert [event["event"] for event in said if event["log_level"] == "error"] == ["snapshot failed"]
    assert keeping.look() == []
    keeping.now += 60 * SECOND_US
    assert keeping.look() == [9]


def test_a_snapshot_for_which_no_process_can_be_started_is_a_failure_like_any_other(
    partition: Partition, archive: SnapshotArchive
) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    partition.grow(10)
    for error in (OSError("Cannot allocate memory"), AssertionError("a defect")):
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(keeping.keeper, "_create", Mock(side_effect=error))
            assert keeping.look() == []
        keeping.now += 60 * SECOND_US
    assert keeping.keeper.kept(0).failures == 2
    assert keeping.look() == [9]


def test_two_owners_that_make_one_of_the_same_position_do_not_count_twice(
    partition: Partition, archive: SnapshotArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.grow(10)
    partition.snapshot()
    with monkeypatch.context() as other:
        other.setattr(copies, "_LEVEL", 3)
        keeping = Keeping(partition, archive, every_records=1)
        making.create(partition.path, archive, partition.data.snapshot(0))
    assert len(archive.list()) == 2
    partition.grow(1)
    keeping.look()
    assert first(partition) == 9
    assert {listed.name.position for listed in archive.list()} == {9, 10}


@pytest.mark.parametrize("wrong", [{"keep": 1}, {"every_records": 0}, {"every_us": 0}])
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CallerError):
        SnapshotPolicy("snapshots", **wrong)


# -- check


def test_check_replays_a_trimmed_log_from_the_oldest_snapshot(partition: Partition, archive: SnapshotArchive) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    for _ in range(3):
        partition.grow(10)
        keeping.look()
    partition.grow(5)
    [found] = check(partition.data, partition.log, archive)
    assert (found.differences, found.position, found.since) == ([], 34, 19)
    assert found.rows == len(partition.dump())


def test_check_finds_a_flipped_row_behind_a_trimmed_log(partition: Partition, archive: SnapshotArchive) -> None:
    keeping = Keeping(partition, archive, every_records=10)
    for _ in range(2):
        partition.grow(10)
        keeping.look()
    connection = apsw.Connection(str(partition.path))
    connection.execute("UPDATE invocation SET retry = 7 WHERE seq = 3").fetchall()
    connection.close()
    [found] = check(partition.data, partition.log, archive)
    assert len(found.differences) == 1


def test_check_says_what_it_lacks_for_a_trimmed_log(partition: Partition) -> None:
    partition.grow(30)
    partition.log.trim(Stream.COMMANDS, 0, 20)
    [found] = check(partition.data, partition.log)
    assert found.differences == [
        "the log begins at position 20 and cannot be replayed from its beginning; name with --snapshots where the "
        "snapshots are, one of which must be of position 19 or later"
    ]


@pytest.mark.parametrize(("first", "begins"), [(30, -1), (31, 31)])
def test_check_has_nothing_to_compare_a_store_with_that_the_log_was_trimmed_beyond(
    partition: Partition, archive: SnapshotArchive, first: int, begins: int
) -> None:
    partition.grow(30)
    partition.snapshot()
    partition.append(5)
    partition.log.trim(Stream.COMMANDS, 0, first)
    [found] = check(partition.data, partition.log, archive)
    assert (found.position, found.differences, found.log_begins) == (29, [], begins)
    assert (found.rows > 0) == (begins < 0)


def test_the_position_that_a_listing_shows_is_that_of_the_file(partition: Partition, archive: SnapshotArchive) -> None:
    partition.grow(7)
    name = partition.snapshot()
    [listed] = archive.list(partition.log.identity, 0)
    assert listed.name == name
    assert name.position == 6
    assert recovery.belonging(partition.log, 0, archive) == [listed]
