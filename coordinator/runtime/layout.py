"""The data directory: which file is what, and what it was made with.

log.sqlite            the embedded log, all streams (owned by the server process)
log.sqlite.lock       who has the directory: a server with the embedded log, or a process on Kafka that keeps data here
partition-N.sqlite    the store of partition N (owned by the worker that has the partition)
requests.sqlite       the coordinator's states (owned by the server process); not on Kafka
faust                 what Faust wants to keep on disk, on Kafka; none of it is needed again
partition-N.snapshot  while a snapshot is made: the copy (the worker's)
partition-N.restored  while one is restored: what was fetched (whoever holds the store's lock)
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.lock import FileLock
from coordinator.logs.port import PartitionsDifferError, Stream
from coordinator.logs.reader import LogReader
from coordinator.model import limits
from coordinator.model.errors import CallerError

PARTITIONS_DEFAULT: Final = 4
_STORE: Final = re.compile(r"partition-(\d+)\.sqlite")


@dataclass(frozen=True)
class DataDirectory:
    """The paths below one data directory."""

    path: Path

    @property
    def log(self) -> Path:
        """The embedded log."""
        return self.path / "log.sqlite"

    @property
    def requests(self) -> Path:
        """The coordinator's states."""
        return self.path / "requests.sqlite"

    @property
    def faust(self) -> Path:
        """What Faust wants to keep on disk; none of it is needed again."""
        return self.path / "faust"

    def store(self, partition: int) -> Path:
        """The store of a partition."""
        return self.path / f"partition-{partition}.sqlite"

    def make(self) -> None:
        """Make the directory unless it is there. Raises CallerError when that cannot be done."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"{self.path} cannot be the data directory ({error.strerror}); name one that can be made"
            raise CallerError(text, field="data") from error

    def lock(self) -> FileLock:
        """Have the directory to oneself, on Kafka; with the embedded log its own lock does so, which is the same file.

        Raises LogLockedError when another process has it, CallerError when the directory cannot be written to.
        """
        try:
            return FileLock(self.log.with_name(self.log.name + ".lock"))
        except OSError as error:
            text = f"{self.path} cannot be the data directory ({error.strerror}); name one that can be written to"
            raise CallerError(text, field="data") from error

    def stores(self) -> list[int]:
        """The partitions whose stores are there."""
        found = (_STORE.fullmatch(path.name) for path in self.path.glob("partition-*.sqlite"))
        return sorted(int(match[1]) for match in found if match)

    def snapshot(self, partition: int) -> Path:
        """The folder in which a snapshot of the partition is made."""
        return self.path / f"partition-{partition}.snapshot"

    def restored(self, partition: int) -> Path:
        """The folder into which a snapshot of the partition is fetched."""
        return self.path / f"partition-{partition}.restored"

    def open_log(self, partitions: int | None) -> EmbeddedLog:
        """Open or create the log; None takes the number of partitions that it has.

        Raises CallerError when the log has another number, or there are stores without a log: those of a process on
        Kafka, or what is left of a log that is lost. Raises LogLockedError when another process has it open.
        """
        if partitions is not None and not 1 <= partitions <= limits.PARTITIONS_MAX:
            raise CallerError(f"--partitions must be 1 to {limits.PARTITIONS_MAX}", field="partitions")
        if not self.log.exists() and self.stores():
            raise CallerError(
                f"{self.path} has stores but no log.sqlite, as where a worker on Kafka keeps them; "
                "give --log kafka://… as before, or another --data",
                field="data",
            )
        self.make()
        wanted = partitions if partitions is not None else self._partitions_there() or PARTITIONS_DEFAULT
        counts = {Stream.COMMANDS: wanted, Stream.DELIVERIES: wanted}
        try:
            return EmbeddedLog.create_or_open(self.log, partitions=counts)
        except PartitionsDifferError as error:
            raise CallerError(
                f"the data in {self.path} was made with another number of partitions than {wanted}; "
                "leave --partitions out, or use another --data",
                field="partitions",
            ) from error

    @contextmanager
    def read_log(self) -> Iterator[LogReader]:
        """The log, for who only reads it, beside a server or without one. Raises CallerError when there is none."""
        if not self.log.exists():
            or_kafka = ", or --log kafka://… where it is on Kafka" if self.stores() else ""
            raise CallerError(
                f"there is no log in {self.path}; give --data the directory that the server was started with{or_kafka}"
            )
        log = LogReader(self.log)
        try:
            yield log
        finally:
            log.close()

    def _partitions_there(self) -> int:
        """How many partitions the directory's log has, 0 when there is none yet."""
        if not self.log.exists():
            return 0
        reader = LogReader(self.log)
        try:
            return reader.counts[Stream.COMMANDS]
        finally:
            reader.close()
