"""Where snapshots are kept: a directory or a bucket of S3, or of what speaks its language.

A snapshot is one object. Its name says what it is of, and which bytes it has:

    <log>/<partition>/<position>-<record>-<sha256>.sqlite.zst

log        the identity of the log that it was made from
partition  of that log
position   of the last record that is applied in it
record     xxh3_64 of that record, in hex: tells a log that was set back to a backup and written on from the first one
sha256     of the object's bytes

So an object never changes, two owners that snapshot the same position are not in each other's way, and a listing is
all the catalogue there is: nothing beside an object can contradict it. An object appears under its name whole or not
at all, on S3 by its contract, in a directory by a rename; whatever else has happened to it since, the hash tells.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import msgspec
import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from coordinator.model.errors import CallerError, TransientError
from coordinator.stores.copies import sync

_NAME: Final = re.compile(
    r"(?P<log>[A-Za-z0-9._=-]+)/(?P<partition>\d{3})/"
    r"(?P<position>\d{19})-(?P<record>[0-9a-f]{16})-(?P<sha256>[0-9a-f]{64})\.sqlite\.zst"
)
_CHUNK_BYTES: Final = 1 << 20
_PARTS_AT_A_TIME: Final = 4
"""Each is held in memory, 5 MiB."""
_RETRIES: Final[Any] = {"max_retries": 3}


class SnapshotName(msgspec.Struct, frozen=True):
    """What a snapshot is of, and which bytes it has."""

    log: str
    partition: int
    position: int
    """Of the last record that is applied in it."""
    record: int
    """xxh3_64 of that record."""
    sha256: str
    """Of the object's bytes, in hex."""

    @property
    def key(self) -> str:
        """Its name in an archive."""
        return f"{_folder(self.log, self.partition)}/{self.position:019}-{self.record:016x}-{self.sha256}.sqlite.zst"

    @classmethod
    def parse(cls, key: str) -> Self | None:
        """The name, None for what is no snapshot."""
        match = _NAME.fullmatch(key)
        if match is None:
            return None
        log = unquote(match["log"].replace("=", "%"))
        name = cls(log, int(match["partition"]), int(match["position"]), int(match["record"], 16), match["sha256"])
        return name if name.key == key else None

    def __str__(self) -> str:
        return f"the snapshot of partition {self.partition} at position {self.position} ({self.sha256[:12]})"


def _folder(log: str, partition: int) -> str:
    """The log's identity may have any characters; those that are not safe in a path are written as `=3A`."""
    safe = re.sub(r"[^A-Za-z0-9._-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), log)
    return f"{safe}/{partition:03}"


class Listed(NamedTuple):
    """A snapshot as a listing shows it."""

    name: SnapshotName
    size: int
    """Bytes, compressed."""
    at: int
    """When it was put there, in microseconds since the epoch."""


class SnapshotGoneError(TransientError):
    """It was removed since it was listed, as snapshots are when there are newer ones."""


class SnapshotArchive:
    """Snapshots in one place. All methods raise TransientError when it cannot be reached or refuses."""

    def __init__(self, place: str, *, make: bool) -> None:
        """Name a directory, or `s3://BUCKET/PREFIX` with AWS' own environment variables for the rest.

        With `make` a directory that is not there is made. Raises CallerError when it is neither of both.
        """
        self.place: Final = place
        self._directory: Path | None = None
        self._store: LocalStore | S3Store
        scheme = urlsplit(place).scheme
        if scheme == "s3":
            with self._errors():
                self._store = S3Store.from_url(place, client_options={"allow_http": True}, retry_config=_RETRIES)
        elif scheme == "":
            self._directory = Path(place).absolute()
            if not make and not self._directory.is_dir():
                raise CallerError(f"there is no directory {place}; name where the snapshots are", field="snapshots")
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                text = f"{place} cannot be the directory of snapshots ({error.strerror}); name one that can be made"
                raise CallerError(text, field="snapshots") from error
            self._store = LocalStore(self._directory)
        else:
            raise CallerError(f"{place} is no place for snapshots: name a directory or s3://BUCKET/PREFIX")

    def list(self, log: str | None = None, partition: int | None = None) -> list[Listed]:
        """Snapshots, newest position first; of one log, or of one partition of it, where that is said."""
        prefix = None if log is None or partition is None else _folder(log, partition)
        found = []
        with self._errors():
            for chunk in obstore.list(self._store, prefix):
                for item in chunk:
                    name = SnapshotName.parse(item["path"])
                    if name is not None and log in (None, name.log) and partition in (None, name.partition):
                        found.append(Listed(name, item["size"], int(item["last_modified"].timestamp() * 1e6)))
        found.sort(key=lambda one: (one.name.log, one.name.partition, -one.name.position, one.name.sha256))
        return found

    def put(self, name: SnapshotName, file: Path) -> None:
        """Add a snapshot. It is there, and would survive a loss of power, when this returns."""
        with self._errors():
            obstore.put(self._store, name.key, file, max_concurrency=_PARTS_AT_A_TIME)
        if self._directory is not None:
            path = self._directory / name.key
            sync(path)
            for folder in path.parents:
                sync(folder)
                if folder == self._directory:
                    break

    def get(self, name: SnapshotName, to: Path) -> bool:
        """Fetch a snapshot into a file; whether its bytes are those that its name promises."""
        digest = hashlib.sha256()
        with to.open("wb") as file:
            for chunk in self._chunks(name):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest() == name.sha256

    def is_whole(self, name: SnapshotName) -> bool:
        """Whether the bytes that are there are those that the name promises. Reads all of them."""
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
        return digest.hexdigest() == name.sha256

    def delete(self, name: SnapshotName) -> None:
        """Remove a snapshot; one that is gone already is none to be removed."""
        with self._errors(), suppress(FileNotFoundError, NotFoundError):
            obstore.delete(self._store, name.key)

    def _chunks(self, name: SnapshotName) -> Iterator[bytes]:
        with self._errors():
            try:
                found = obstore.get(self._store, name.key)
            except (NotFoundError, FileNotFoundError):
                raise SnapshotGoneError(f"{name} is not in {self.place} any more; try again") from None
            for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            reason = " ".join(str(error).partition("Debug source:")[0].split())  # behind it is what the library knows
            raise TransientError(f"the snapshots in {self.place} cannot be used for now: {reason}") from error
