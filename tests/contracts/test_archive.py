"""What every place for snapshots does: a directory, and a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.model.errors import CallerError, TransientError
from coordinator.stores.archive import SnapshotArchive, SnapshotGoneError, SnapshotName
from coordinator.stores.copies import sha256
from tests.s3 import BUILD_S, S3Server

pytestmark = pytest.mark.timeout(BUILD_S)
LARGE = 12 << 20
"""More than goes into one part of an upload."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")).running() as server:
        yield server


class Place:
    """An archive and where its objects lie."""

    def __init__(self, place: str, folder: Path) -> None:
        self.archive = SnapshotArchive(place, make=True)
        self._folder = folder

    def file(self, name: SnapshotName) -> Path:
        return self._folder / name.key


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "directory":
        return Place(str(tmp_path / "archive"), tmp_path / "archive")
    server: S3Server = request.getfixturevalue("s3")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    prefix = tmp_path.name  # a place of its own for each test
    return Place(f"{server.place}/{prefix}", server.file(prefix))


def snapshot(
    tmp_path: Path, position: int, *, log: str = "log", partition: int = 0, size: int = 100
) -> tuple[SnapshotName, Path]:
    """Some bytes in a file and the name that they have as a snapshot."""
    file = tmp_path / f"{log.replace('/', '')}-{partition}-{position}"
    file.write_bytes(bytes(range(256)) * (size // 256 + 1) + position.to_bytes(8, "big"))
    return SnapshotName(log, partition, position, 7, sha256(file)), file


@pytest.mark.parametrize("size", [100, LARGE])
def test_what_was_put_is_got(place: Place, tmp_path: Path, size: int) -> None:
    name, file = snapshot(tmp_path, 5, size=size)
    place.archive.put(name, file)
    got = tmp_path / "got"
    assert place.archive.get(name, got)
    assert got.read_bytes() == file.read_bytes()
    assert place.archive.is_whole(name)


def test_a_listing_has_the_newest_position_first_and_only_what_was_asked_for(place: Place, tmp_path: Path) -> None:
    logs = ("log", "kafka:a/b=c é", "log2")
    made = [snapshot(tmp_path, at, log=log, partition=number) for log in logs for number in (0, 11) for at in (9, 100)]
    for name, file in made:
        place.archive.put(name, file)
    for log in logs:
        for number in (0, 11):
            found = place.archive.list(log, number)
            assert [(one.name.log, one.name.partition, one.name.position) for one in found] == [
                (log, number, 100),
                (log, number, 9),
            ]
    assert {one.name for one in place.archive.list()} == {name for name, _ in made}
    assert place.archive.list("lo", 0) == place.archive.list("log", 1) == []


def test_a_listing_tells_the_size_and_the_time(place: Place, tmp_path: Path) -> None:
    name, file = snapshot(tmp_path, 5)
    place.archive.put(name, file)
    [listed] = place.archive.list("log", 0)
    assert listed.size == file.stat().st_size
    assert abs(listed.at - file.stat().st_mtime * 1e6) < 60e6


def test_bytes_that_have_changed_are_noticed(place: Place, tmp_path: Path) -> None:
    name, file = snapshot(tmp_path, 5)
    place.archive.put(name, file)
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    place.file(name).write_bytes(content)
    assert not place.archive.is_whole(name)
    assert not place.archive.get(name, tmp_path / "got")


def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: Place, tmp_path: Path) -> None:
    name, file = snapshot(tmp_path, 5)
    place.archive.put(name, file)
    place.archive.delete(name)
    place.archive.delete(name)
    assert place.archive.list("log", 0) == []
    with pytest.raises(SnapshotGoneError):
        place.archive.is_whole(name)


def test_other_objects_are_no_snapshots(place: Place, tmp_path: Path) -> None:
    name, file = snapshot(tmp_path, 5)
    place.archive.put(name, file)
    folder = place.file(name).parent
    for other in ("README.txt", "0000000000000000005-7.sqlite.zst", f"{file.name}#1"):
        (folder / other).write_bytes(b"not one")
    assert [one.name for one in place.archive.list("log", 0)] == [name]


def test_a_directory_that_is_not_there_is_not_made_by_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="there is no directory"):
        SnapshotArchive(str(tmp_path / "typo"), make=False)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("place", ["ftp://somewhere", "gs://bucket"])
def test_a_place_that_is_neither_a_directory_nor_s3_is_refused(place: str) -> None:
    with pytest.raises(CallerError, match="no place for snapshots"):
        SnapshotArchive(place, make=True)


def test_a_server_that_refuses_is_said_to(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (s3.env | {"AWS_SECRET_ACCESS_KEY": "another"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TransientError, match=f"the snapshots in {s3.place} cannot be used for now"):
        SnapshotArchive(s3.place, make=False).list()


def test_a_name_is_read_as_it_was_written() -> None:
    name = SnapshotName("kafka:a/b=c é", 255, 2**62, 2**64 - 1, "0" * 64)
    assert SnapshotName.parse(name.key) == name
    assert SnapshotName.parse(name.key + ".tmp") is None
    assert SnapshotName.parse(name.key.replace("=3A", ":")) is None


def test_a_bucket_that_is_not_there_is_said_to(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TransientError, match="the snapshots in s3://nowhere/at-all cannot be used for now"):
        SnapshotArchive("s3://nowhere/at-all", make=True).list("log", 0)
