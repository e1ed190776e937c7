"""What is asked of the automatic snapshots."""

from typing import Final

import msgspec

from coordinator.model.errors import CallerError
from coordinator.model.limits import HOUR_US

KEEP_MIN: Final = 2
"""The log is trimmed below the oldest that is kept; with one alone nothing would be left should it be damaged."""


class SnapshotPolicy(msgspec.Struct, frozen=True):
    """Where snapshots go, how often they are made, how many stay. Raises CallerError when that cannot be meant."""

    place: str
    """A directory, or `s3://BUCKET/PREFIX`."""
    every_records: int = 1_000_000
    """After so many records."""
    every_us: int = HOUR_US
    """Or after so long, if there were any records."""
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every_records < 1:
            raise CallerError("--snapshot-records must be at least 1", field="snapshot-records")
        if self.every_us < 1:
            raise CallerError("--snapshot-interval must be longer than nothing", field="snapshot-interval")
        if self.keep < KEEP_MIN:
            raise CallerError(
                f"--snapshot-keep must be at least {KEEP_MIN}: the log is trimmed, and one alone may be damaged",
                field="snapshot-keep",
            )
