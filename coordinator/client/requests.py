"""What is asked for: filters, and the batches that act on what they match."""

import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

import msgspec

from coordinator.model.errors import CallerError
from coordinator.model.statuses import Action

When = str | datetime
"""RFC 3339, an age such as `2h` (the server resolves it), or a datetime with its time zone."""


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which invocations are meant: all conditions must hold, and what is None does not restrict.

    `before` is `<`, `after` is `>=`. Without a status, a batch means those that its action may act on. A batch
    over everything needs the explicit `all=True`.
    """

    target: str | None = None
    """`Service`, `Service/handler`, `Object/key` or `Object/key/handler`."""
    service: str | None = None
    handler: str | None = None
    key: str | None = None
    status: str | Collection[str] | None = None
    deployment: str | None = None
    ids: Collection[str] | None = None
    created_before: When | None = None
    created_after: When | None = None
    modified_before: When | None = None
    modified_after: When | None = None
    killed_by: str | None = None
    """Id of a batch: only what it has ended itself by killing. Of batches only, not of listings."""
    all: bool = False

    def to_json(self) -> dict[str, Any]:
        """The filter as the API writes it, without what does not restrict."""
        plain: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None or value is False:
                continue
            if isinstance(value, datetime):
                value = _rfc3339(value, name)
            elif name == "status":
                value = [value] if isinstance(value, str) else sorted(value)
            elif name == "ids":
                value = list(value)
            plain[name] = value
        return plain

    def to_query(self) -> list[tuple[str, str]]:
        """The same as parameters of a listing; several values of a name mean any of them."""
        pairs = []
        for name, value in self.to_json().items():
            for one in value if isinstance(value, list) else [value]:
                pairs.append((name, one if isinstance(one, str) else "true"))
        return pairs


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that can be submitted. Made by `kill` and its like."""

    action: str
    filter: Filter
    reason: str | None = None
    """Recorded with the batch."""
    request_id: str | None = None
    """Submitting the same request under the same id again is the same batch. Chosen for you when None."""
    expect: int | None = None
    """Refuse, and touch nothing, unless exactly so many match."""
    max: int | None = None
    """Refuse, and touch nothing, when more match."""
    rate: int | None = None
    """Invocations a second at most."""
    dry_run: bool = False
    """Count what the action would do and do nothing."""
    deployment: str | None = None
    """For `resume`: the deployment to go on with."""
    grace: str | timedelta | None = None
    """For `cancel`: how long after it came into force what has not ended is killed, as `30s`."""

    def to_json(self) -> dict[str, Any]:
        """The body of `POST /batches`."""
        guard = _given(expect=self.expect, max=self.max)
        given = _given(
            request_id=self.request_id,
            reason=self.reason,
            guard=guard or None,
            rate=self.rate,
            deployment=self.deployment,
            grace=duration(self.grace),
            dry_run=self.dry_run or None,
        )
        return {"action": self.action, "filter": self.filter.to_json(), **given}


def named(request: BatchRequest) -> BatchRequest:
    """The same with a request id, chosen here where it has none yet."""
    if request.request_id is not None:
        return request
    return msgspec.structs.replace(request, request_id=f"{request.action}-{secrets.token_hex(8)}")


class BatchOptions(TypedDict, total=False):
    """What may be said of any batch; see the fields of `BatchRequest`."""

    reason: str | None
    request_id: str | None
    expect: int | None
    max: int | None
    rate: int | None
    dry_run: bool


def cancel(filter: Filter, *, grace: str | timedelta | None = None, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Ask what matches to end: handlers are told at their next await point, compensation runs.

    What has not ended after `grace` is killed.
    """
    return BatchRequest(action=Action.CANCEL, filter=filter, grace=grace, **options)


def kill(filter: Filter, **options: Unpack[BatchOptions]) -> BatchRequest:
    """End what matches at once, with what it has called, without compensation."""
    return BatchRequest(action=Action.KILL, filter=filter, **options)


def pause(filter: Filter, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Hold what matches until it is resumed."""
    return BatchRequest(action=Action.PAUSE, filter=filter, **options)


def resume(filter: Filter, *, deployment: str | None = None, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Go on with what is paused or waits for a retry, on another deployment if one is given."""
    return BatchRequest(action=Action.RESUME, filter=filter, deployment=deployment, **options)


def purge(filter: Filter, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Remove what matches and is completed."""
    return BatchRequest(action=Action.PURGE, filter=filter, **options)


def restart_as_new(filter: Filter, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Start another one like each that matches and is completed, with its input. Not for workflows."""
    return BatchRequest(action=Action.RESTART_AS_NEW, filter=filter, **options)


def count(filter: Filter, **options: Unpack[BatchOptions]) -> BatchRequest:
    """Count what matches, at one position of each partition's log."""
    return BatchRequest(action=Action.COUNT, filter=filter, **options)


def duration(given: str | timedelta | None) -> str | None:
    """A duration as the API writes it."""
    return f"{given // timedelta(microseconds=1)}us" if isinstance(given, timedelta) else given


def _rfc3339(at: datetime, name: str) -> str:
    if at.tzinfo is None:
        raise CallerError(f"{name} needs a time zone: datetime.now(UTC), for instance", field=f"filter.{name}")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
