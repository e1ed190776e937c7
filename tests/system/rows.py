"""Rows of Restate's sys_invocation, made to measure: what tests import."""

import itertools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from coordinator.model import ids

PARTITIONS = 4
_numbers = itertools.count(1)

Row = dict[str, Any]


def at(age_s: float = 0.0) -> str:
    """A time so long ago, as Restate writes it."""
    return exact(datetime.now(UTC) - timedelta(seconds=age_s))


def exact(time: datetime) -> str:
    """A time with all its microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def id_on(partition: int, partitions: int = PARTITIONS) -> str:
    """A new id of an unkeyed target on this partition."""
    number = next(_numbers)
    return ids.invocation_id(((partition << 64) // partitions) + number, number)


def id_of_key(key: str) -> str:
    """A new id of a target with this key."""
    return ids.invocation_id(ids.key_partition_key(key), next(_numbers))


def row(target: str, status: str = "suspended", *, partition: int | None = None, **columns: Any) -> Row:
    """A row; unkeyed ones go to the partitions in turn unless told where to. A column that is None is left out."""
    service, *between, handler = target.split("/")
    key = between[0] if between else None
    if partition is None:
        partition = next(_numbers) % PARTITIONS
    id = id_on(partition) if key is None else id_of_key(key)
    made: Row = {
        "id": id,
        "target_service_name": service,
        "target_handler_name": handler,
        "target_service_ty": "service" if key is None else "virtual_object",
        "target_service_key": key,
        "status": status,
        "created_at": at(60),
        "modified_at": at(60),
        "completion_retention": "P30D",
    }
    if status == "completed":
        made |= {"completion_result": "success", "completed_at": at(60)}
    if status == "scheduled":
        made["scheduled_start_at"] = at(-3_600)
    if status == "backing-off":
        made |= {"next_retry_at": at(-3_600), "retry_count": 3, "last_failure": "[500] no"}
    return {name: value for name, value in (made | columns).items() if value is not None}


def lines(rows: Iterable[Row]) -> bytes:
    """The rows as a file."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def ids_of(rows: Iterable[dict[str, Any]]) -> set[str]:
    """Which they are."""
    return {row["id"] for row in rows}
