"""Retrying a batch: what of it has failed, once more, as a batch of its own.

Failed are the rows that it has counted so, which partitions remember, and all of what it asked of a partition that took
no part. The guard is not carried over: it held for all of it, and these are a part of that.
"""

import re
from typing import Final

import msgspec

from coordinator.model import limits
from coordinator.model.errors import ConflictError
from coordinator.model.messages import Submit
from coordinator.requests import fold, lifecycle
from coordinator.requests.state import REFUSED, Request

_RETRY: Final = re.compile(r"(?P<first>.+)\.retry-(?P<number>[1-9]\d*)", re.DOTALL)


def submission(request: Request) -> Submit:
    """The retry of a request. Always the same one: asked for twice, it is the same batch.

    Raises ConflictError when the request is not over, or there is nothing to retry.
    """
    asked = request.submission
    assert asked is not None, "what was not submitted is not retried"
    id = request.id
    if request.refused or asked.dry_run:
        raise ConflictError(f"batch {id} has touched nothing; submit another one instead of a retry")
    if not lifecycle.ended(request):
        raise ConflictError(f"batch {id} is {lifecycle.state(request)}; retry it when it is over")
    untouched = tuple(
        number for number, one in enumerate(request.partitions) if one.ending and one.ending.state == REFUSED
    )
    if not untouched and not fold.total(request).failed:
        raise ConflictError(f"nothing of batch {id} has failed")
    if asked.filter.failed_of is not None and not set(untouched) <= set(asked.untouched):
        raise ConflictError(f"batch {id} is a retry that a partition has refused; submit {asked.filter.failed_of} anew")
    return Submit(
        request=_name(id),
        action=asked.action,
        filter=msgspec.structs.replace(asked.filter, failed_of=id),
        reason=asked.reason,
        rate=asked.rate,
        deployment=asked.deployment,
        grace=asked.grace,
        untouched=untouched,
    )


def _name(id: str) -> str:
    """`x.retry-1` for x, `x.retry-2` for that."""
    match = _RETRY.fullmatch(id)
    first, number = (id, 0) if match is None else (match["first"], int(match["number"]))
    name = f"{first}.retry-{number + 1}"
    if len(name) > limits.NAME_CHARS_MAX:
        raise ConflictError(
            f"batch {id} cannot be retried: the retry's id would have more than {limits.NAME_CHARS_MAX} characters"
        )
    return name
