"""What a step of the machine wants appended to the log.

Each is idempotent by request and revision, so the driver may append it more than once; none may be left out
for good, but what a partition does not answer is sent again.
"""

from typing import NamedTuple

from coordinator.model.messages import Command, Decide, RequestState


class Send(NamedTuple):
    """Append `command` to partition `partition` of `commands`."""

    partition: int
    command: Command


class Ask(NamedTuple):
    """Append `decide` to `requests`; it takes effect when it is read from there."""

    decide: Decide


class Tell(NamedTuple):
    """Append `state` to `progress`."""

    state: RequestState


Effect = Send | Ask | Tell
