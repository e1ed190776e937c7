"""The coordinator's state on Kafka: rows on a compacted topic, the changelog of its table, and who may write them.

Theory of operation
-------------------
**Rows.** `request:ID` and `deployment:NUMBER` hold what their name says, `position` nothing. Every row also carries the
positions of `requests` and `progress` up to which all was folded when it was written, and that of a request, where that
is further, up to where this request was. A run of records writes one row for each request that it changes. All but the
last say that only their own request is folded up to the end of the run; the last one, which is written when the others
are acknowledged, says that all is. (Where nothing changes, it is `position`.) So the state and how far it goes always
move in one record. If the last row of a run is missing, the run is folded again, past the requests that have their
rows: no record of the log is ever folded twice into the same state.

Requests have nothing to do with one another, so to fold one further than the others is harmless. What is not so has a
run to itself, with one row: a registration, which is numbered by those before it, and the end of a request's row.

**Claims.** Kafka's group moves the coordinator from one process to another, but one that was stopped for a while does
not know that it was replaced, and goes on writing until it hears of it. So whoever takes over appends a claim
(`owner`, with the identity of the log that it reads), makes sure that it has read all before it, and puts the claim's
offset on every row that it writes, tombstones included. The newest claim wins: from its place on, rows with a lower
one are void for all who read (`Fence`). It is the same with ticks and revisions: what a second owner appends is
recognized by its number and changes nothing.

**Tenures.** Whoever carries deliveries is where the coordinator is, and partitions too have to tell it from one that
was replaced. The claim's offset does not serve for that: the partitions' logs outlive the changelog, which may be made
anew, with offsets from 0. So a claim also has the number of its tenure: the time in microseconds, or one more than any
claim before it has.

**Compaction** knows no claims. It may keep a void row and drop the valid one before it. So a row that was shadowed in
this way is written again by the owner that reads it, and the topic keeps everything for an hour, in which that will
have happened (`logs.kafka.topics`).
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from coordinator.logs.kafka.errors import BEGIN_ANEW
from coordinator.logs.port import Stream
from coordinator.model.errors import CorruptionError
from coordinator.requests import deployments, state
from coordinator.requests.deployments import Deployment, Registry
from coordinator.requests.state import Request
from coordinator.runtime.requests.known import READ

OWNER: Final = b"owner"
POSITION: Final = b"position"
_REQUEST: Final = b"request:"
_DEPLOYMENT: Final = b"deployment:"

OWNER_HEADER: Final = "owner"
"""The header with the offset of the writer's claim, in decimal digits."""
TENURE_HEADER: Final = "tenure"
"""The header of a claim with the number of its tenure, in decimal digits."""
Headers = Iterable[tuple[str, bytes]]
Positions = dict[Stream, int]
"""The next position to fold of each stream."""


class Change(NamedTuple):
    """What a row tells."""

    positions: Positions
    """Up to where all was folded when it was written."""
    what: Request | Deployment | None
    ahead: Positions | None = None
    """Up to where this request alone was, where that is further."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    requests: int
    progress: int
    body: bytes = b""
    ahead: tuple[int, int] | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Row)


def key_of(what: Request | Deployment | None) -> bytes:
    """The key of its row; that of the positions alone for None."""
    if what is None:
        return POSITION
    return request_key(what.id) if isinstance(what, Request) else b"%s%d" % (_DEPLOYMENT, what.number)


def request_key(id: str) -> bytes:
    return _REQUEST + id.encode()


def request_of(key: bytes) -> str | None:
    """The id of the request whose row this is, None for a row of something else."""
    return key.removeprefix(_REQUEST).decode() if key.startswith(_REQUEST) else None


def encode(change: Change) -> bytes:
    """The row's value."""
    what = change.what
    body = b""
    if isinstance(what, Request):
        body = state.encode(what)
    elif what is not None:
        body = deployments.encode(what)
    requests, progress = _pair(change.positions)
    return _encoder.encode(_Row(requests, progress, body, None if change.ahead is None else _pair(change.ahead)))


def decode(key: bytes, value: bytes) -> Change:
    """What the row of this key says. Raises CorruptionError when it is none of ours."""
    try:
        row = _decoder.decode(value)
        what: Request | Deployment | None = None
        if key.startswith(_REQUEST):
            what = state.decode(row.body)
        elif key.startswith(_DEPLOYMENT):
            what = deployments.decode(row.body)
        elif key != POSITION:
            raise CorruptionError(f"the changelog has a row {key!r}, which this build does not know; use its build")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptionError(
            f"row {key!r} of the changelog cannot be read ({error}); use the build it is of"
        ) from error
    ahead = None if row.ahead is None else dict(zip(READ, row.ahead, strict=True))
    return Change({Stream.REQUESTS: row.requests, Stream.PROGRESS: row.progress}, what, ahead)


def _pair(positions: Mapping[Stream, int]) -> tuple[int, int]:
    return positions[Stream.REQUESTS], positions[Stream.PROGRESS]


class Fence:
    """Tells valid rows from void ones; it must see every record of the changelog, in order."""

    def __init__(self) -> None:
        self.last = -1
        """The offset of the last record that it has seen."""
        self.shadowed: set[bytes] = set()
        """Keys whose newest row is void: compaction may drop the valid one before it."""
        self.log: str | None = None
        """The identity of the log that the rows were made from; None as long as nobody has claimed them."""
        self.tenure = 0
        """The highest number that any claim has."""
        self._claim = -1

    def check(self, topic: str, log: str) -> None:
        """Raise CorruptionError when the rows on this topic are of another log than this one."""
        if self.log not in (None, log):
            raise CorruptionError(f"{topic} was made from log {self.log} and this is log {log}; {BEGIN_ANEW}")

    def check_claimed(self, topic: str) -> None:
        """Raise CorruptionError when there are rows and nobody's claim, once all is read.

        Compaction keeps the newest claim; so it was on another topic of this name, and most of the rows too.
        """
        if self.log is None and self.last >= 0:
            raise CorruptionError(
                f"{topic} was made anew while a coordinator went on writing to it; stop every process with the role "
                "requests, delete the topic, and make it again with coordinator topics create: all of it is in the log"
            )

    def admits(self, offset: int, key: bytes, value: bytes | None, headers: Headers) -> bool:
        """Whether the record is a row that counts."""
        self.last = offset
        if key == OWNER:
            self._claim = offset
            self.log = (value or b"").decode(errors="replace")
            self.tenure = max(self.tenure, _number(headers, TENURE_HEADER, 0))
            return False
        claim = _number(headers, OWNER_HEADER, -1)
        if claim < self._claim:
            self.shadowed.add(key)
            return False
        self._claim = claim  # also where compaction has dropped the claim itself
        self.shadowed.discard(key)
        return True


def _number(headers: Headers, wanted: str, otherwise: int) -> int:
    for name, value in headers:
        if name == wanted and value.isdigit():
            return int(value)
    return otherwise


class Restored(NamedTuple):
    """All rows together."""

    positions: Positions
    requests: dict[str, Request]
    registry: Registry
    ahead: dict[str, Positions]
    """Requests that are folded further, and up to where: those of a run whose last row is missing."""


def restore(rows: Mapping[bytes, bytes]) -> Restored:
    """What the valid rows, by key, come to. Raises CorruptionError when one is none of ours."""
    positions = dict.fromkeys(READ, 0)
    requests: dict[str, Request] = {}
    registered: list[Deployment] = []
    ahead: dict[str, Positions] = {}
    for key, value in rows.items():
        change = decode(key, value)
        positions = later(positions, change.positions)
        if isinstance(change.what, Request):
            requests[change.what.id] = change.what
            if change.ahead is not None:
                ahead[change.what.id] = change.ahead
        elif change.what is not None:
            registered.append(change.what)
    return Restored(positions, requests, Registry(registered), still_ahead(ahead, positions))


def still_ahead(ahead: Mapping[str, Positions], positions: Mapping[Stream, int]) -> dict[str, Positions]:
    """Those that all the others have not caught up with."""
    return {id: own for id, own in ahead.items() if any(own[stream] > positions[stream] for stream in READ)}


def later(one: Mapping[Stream, int], other: Mapping[Stream, int]) -> dict[Stream, int]:
    """The later position of each stream."""
    return {stream: max(one[stream], other[stream]) for stream in READ}
