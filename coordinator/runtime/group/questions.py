"""Questions to the owner of a partition, as they go over the wire: msgpack, one kind for each method of `Queries`.

Both ends are builds of this project, possibly not of the same day: fields are only added, at the end, with defaults.
"""

from typing import Any, Final

import msgspec

from coordinator.model.filters import Filter
from coordinator.runtime.views import Cursor, Ending, InvocationDetails, Listed, PartitionSummary


class Question(msgspec.Struct, array_like=True, frozen=True):
    """What all of them have."""

    known: int
    """A position that whoever asks has seen applied: the answer must be as new as that."""


class AskSummary(Question, tag=1, frozen=True):
    """`Queries.summary`."""


class AskInvocation(Question, tag=2, frozen=True):
    """`Queries.invocation`."""

    id: str


class AskEndings(Question, tag=3, frozen=True):
    """`Queries.endings`."""

    ids: list[str]


class AskPage(Question, tag=4, frozen=True):
    """`Queries.page`."""

    filter: Filter
    after: Cursor | None
    limit: int


class AskServiceType(Question, tag=5, frozen=True):
    """`Queries.service_type`."""

    service: str


Asked = AskSummary | AskInvocation | AskEndings | AskPage | AskServiceType

ASKED: Final[msgspec.msgpack.Decoder[Asked]] = msgspec.msgpack.Decoder(Asked)
ANSWERS: Final[dict[type[Question], msgspec.msgpack.Decoder[Any]]] = {
    AskSummary: msgspec.msgpack.Decoder(PartitionSummary),
    AskInvocation: msgspec.msgpack.Decoder(InvocationDetails | None),
    AskEndings: msgspec.msgpack.Decoder(dict[str, Ending]),
    AskPage: msgspec.msgpack.Decoder(list[Listed]),
    AskServiceType: msgspec.msgpack.Decoder(int | None),
}


class Refusal(msgspec.Struct, array_like=True, frozen=True):
    """The body of an answer that is none."""

    text: str


# How an answer is told from a refusal; both ends are ours, so the codes mean just this.
ANSWERED: Final = 200
DAMAGED: Final = 410
"""The store is damaged. Not 500, which is what any defect becomes."""
NOT_OWNED: Final = 421
"""Misdirected: another process owns the partition, or none."""
UNAVAILABLE: Final = 503
