"""Making a snapshot in a process of its own: `python -m coordinator.runtime.snapshots.apart STORE PLACE FOLDER`.

It computes for seconds, at a lower priority than owners have, and an owner must not share an interpreter or its memory
with that. Its standard input is its life line: when the process that has started it ends, however that ends, it
closes, and so does this one. What comes out is one message on standard output.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from coordinator.model.errors import CorruptionError, TransientError
from coordinator.runtime.snapshots import making
from coordinator.stores.archive import SnapshotArchive, SnapshotName

_NICE: Final = 10


class _Made(msgspec.Struct, tag=True):
    name: SnapshotName


class _Failed(msgspec.Struct, tag=True):
    text: str
    is_corrupt: bool


_OUTCOME: Final[msgspec.json.Decoder[_Made | _Failed]] = msgspec.json.Decoder(_Made | _Failed)


def create(store: Path, archive: SnapshotArchive, folder: Path) -> SnapshotName:
    """`making.create`, elsewhere. Raises TransientError also when that process was ended."""
    command = [sys.executable, "-m", "coordinator.runtime.snapshots.apart", str(store), archive.place, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - ourselves
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode != 0:
        raise TransientError(f"the process that makes snapshots has ended with code {process.returncode}")
    outcome = _OUTCOME.decode(said)
    if isinstance(outcome, _Made):
        return outcome.name
    raise CorruptionError(outcome.text) if outcome.is_corrupt else TransientError(outcome.text)


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    store, place, folder = arguments
    os.nice(_NICE)
    threading.Thread(target=_end_with_the_other, name="life line", daemon=True).start()
    outcome: _Made | _Failed
    try:
        outcome = _Made(making.create(Path(store), SnapshotArchive(place, make=True), Path(folder)))
    except (CorruptionError, TransientError) as error:
        outcome = _Failed(str(error), isinstance(error, CorruptionError))
    os.write(sys.stdout.fileno(), msgspec.json.encode(outcome))


def _end_with_the_other() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
