"""Settings: a flag, then an environment variable, then a TOML file, then the default.

Typer resolves the first two; what is left open is looked up here. The token has no flag, because flags can be
read by everybody on the machine.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.model.errors import CallerError

if TYPE_CHECKING:
    from coordinator.cli.flags import SnapshotFlags
    from coordinator.logs.kafka import KafkaSettings
    from coordinator.runtime.serve import Role
    from coordinator.runtime.snapshots.policy import SnapshotPolicy

FILE_DEFAULT: Final = "coordinator.toml"
DATA_DEFAULT: Final = Path("coordinator-data")
LISTEN_DEFAULT: Final = "127.0.0.1:9070"
EMBEDDED: Final = "embedded"

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", envvar="COORDINATOR_URL", help="Where the server is.  [default: http://127.0.0.1:9070]"
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="COORDINATOR_DATA", help=f"Data directory.  [default: {DATA_DEFAULT}]"
    ),
]
Listen = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="ADDRESS", envvar="COORDINATOR_LISTEN", help=f"HOST:PORT.  [default: {LISTEN_DEFAULT}]"
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions", metavar="N", envvar="COORDINATOR_PARTITIONS", min=1, help="How many new data is made with."
    ),
]
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="LOG",
        envvar="COORDINATOR_LOG",
        help="embedded, or kafka://HOST:PORT, several HOST:PORT with commas.  [default: embedded]",
    ),
]
Roles = Annotated[
    str | None,
    typer.Option(
        "--roles",
        metavar="ROLES",
        envvar="COORDINATOR_ROLES",
        help="On Kafka: which of partitions,requests,http this process has.  [default: all]",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        metavar="ADDRESS",
        envvar="COORDINATOR_ADVERTISE",
        help="On Kafka: HOST:PORT at which other processes reach this one.  [default: that of --listen]",
    ),
]


def _snapshots(*aliases: str) -> Any:
    text = "Where snapshots are: a directory or s3://BUCKET/PREFIX."
    return typer.Option("--snapshots", *aliases, metavar="PLACE", envvar="COORDINATOR_SNAPSHOTS", help=text)


Snapshots = Annotated[str | None, _snapshots()]
SnapshotsTo = Annotated[str | None, _snapshots("--to")]
SnapshotsFrom = Annotated[str | None, _snapshots("--from")]


class File:
    """What the TOML file says. Raises CallerError when it cannot be read or has a setting that is none."""

    def __init__(self, path: Path) -> None:
        import msgspec

        class Settings(msgspec.Struct, forbid_unknown_fields=True):
            url: str | None = None
            token: str | None = None
            data: str | None = None
            listen: str | None = None
            partitions: int | None = None
            log: str | None = None
            roles: str | None = None
            advertise: str | None = None
            kafka: dict[str, Any] = {}
            snapshots: str | None = None
            snapshot_records: int | None = None
            snapshot_interval: str | None = None
            snapshot_keep: int | None = None

        try:
            said = msgspec.toml.decode(path.read_bytes(), type=Settings)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            known = ", ".join(Settings.__struct_fields__)
            raise CallerError(f"{path} cannot be read as settings ({error}); it may have {known}") from None
        self.url, self.token, self.listen, self.partitions = said.url, said.token, said.listen, said.partitions
        self.log, self.roles, self.advertise = said.log, said.roles, said.advertise
        # What a file says of paths holds wherever the command is run.
        self.data = None if said.data is None else path.parent / said.data
        self.kafka = dict(_dotted(said.kafka))
        for name in self.kafka:
            if name.endswith(".location"):
                self.kafka[name] = str(path.parent / self.kafka[name])
        self.snapshots = said.snapshots
        if said.snapshots is not None and "://" not in said.snapshots:
            self.snapshots = str(path.parent / said.snapshots)
        self.snapshot_records, self.snapshot_keep = said.snapshot_records, said.snapshot_keep
        self.snapshot_interval = said.snapshot_interval


@functools.cache
def file() -> File | None:
    """The settings file, None when there is none."""
    named = os.environ.get("COORDINATOR_CONFIG")
    if named:
        return File(Path(named))
    return File(Path(FILE_DEFAULT)) if Path(FILE_DEFAULT).exists() else None


def url(given: str | None) -> str | None:
    """Where the server is; None leaves it to the client's default."""
    return given or (said.url if (said := file()) else None)


def token() -> str | None:
    """What to show the server, if anything."""
    return os.environ.get("COORDINATOR_TOKEN") or (said.token if (said := file()) else None)


def data(given: Path | None) -> Path:
    """The data directory."""
    return given or (said.data if (said := file()) else None) or DATA_DEFAULT


def listen(given: str | None) -> str:
    """Where to serve."""
    return given or (said.listen if (said := file()) else None) or LISTEN_DEFAULT


def partitions(given: int | None) -> int | None:
    """How many partitions new data gets; None leaves it to the server."""
    return given if given is not None else (said.partitions if (said := file()) else None)


def log(given: str | None) -> str:
    """Which log: `embedded`, or the address of Kafka."""
    return given or (said.log if (said := file()) else None) or EMBEDDED


def kafka(url: str) -> "KafkaSettings":
    """The cluster at this address, and its client's settings from the environment, then the file.

    Raises CallerError when they cannot be meant so.
    """
    from coordinator.logs.kafka import KafkaSettings, SettingsError

    try:
        return KafkaSettings.of(url, kafka_properties())
    except SettingsError as error:
        raise CallerError(str(error), field="log") from None


def kafka_properties() -> dict[str, str]:
    """The settings of Kafka's client from the environment, then the file."""
    from coordinator.logs.kafka.settings import from_environment

    return (said.kafka if (said := file()) else {}) | from_environment()


def roles(given: str | None) -> "frozenset[Role]":
    """The roles of this process. Raises CallerError for one that is none."""
    from coordinator.runtime.serve import Role

    text = given or (said.roles if (said := file()) else None)
    if text is None:
        return frozenset(Role)
    names = {name.strip() for name in text.split(",")}
    if not names <= set(Role):
        raise CallerError(f"--roles {text!r}: the roles are {', '.join(Role)}, separated by commas", field="roles")
    return frozenset(map(Role, names))


def advertise(given: str | None) -> str | None:
    """Where other processes reach this one; None leaves it to where it listens."""
    return given or (said.advertise if (said := file()) else None)


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their whole names: `security.protocol` without quotes is a table in a table to TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)


def snapshots(given: str | None) -> str | None:
    """Where snapshots are; None for no snapshots."""
    return given or (said.snapshots if (said := file()) else None)


def snapshot_policy(flags: "SnapshotFlags") -> "SnapshotPolicy | None":
    """What is asked of the automatic snapshots, None when nobody has said where they go.

    Raises CallerError when that cannot be meant so.
    """
    from coordinator.model.times import parse_duration
    from coordinator.runtime.snapshots.policy import SnapshotPolicy

    place, said = snapshots(flags.snapshots), file()
    if place is None:
        return None
    records, interval, keep = flags.snapshot_records, flags.snapshot_interval, flags.snapshot_keep
    if said is not None:
        records = said.snapshot_records if records is None else records
        interval = said.snapshot_interval if interval is None else interval
        keep = said.snapshot_keep if keep is None else keep
    every_us = None if interval is None else parse_duration(interval)
    chosen = {"every_records": records, "every_us": every_us, "keep": keep}
    return SnapshotPolicy(place, **{name: value for name, value in chosen.items() if value is not None})
