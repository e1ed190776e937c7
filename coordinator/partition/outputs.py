"""What applying a record hands to whoever drives the machine, beside the store's changes."""

from typing import NamedTuple


class Answer(NamedTuple):
    """What the sender of a command is told once it is applied. Codes are those of HTTP."""

    position: int
    code: int
    id: str | None = None
    status: str | None = None
    detail: str | None = None


class Outgoing(NamedTuple):
    """An outbox entry of the present run."""

    destination: int
    number: int
    value: bytes
