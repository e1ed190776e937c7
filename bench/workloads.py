"""The records that are measured with. Everything comes from a seed, so that two runs have the same bytes."""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.scale import SEED
from coordinator.logs.port import Entry, Stream
from coordinator.model import ids, limits, messages
from coordinator.model.filters import Filter
from coordinator.model.invocation import ServiceType
from coordinator.model.journal import Call, Step, StepKind

SERVICE: Final = "Greeter"
HOT_KEY: Final = "cart55"
MATCHING: Final = Filter(service=SERVICE, status=("scheduled",))
"""What the batches of most figures select."""

_FAR_US: Final = 4_102_444_800 * limits.SECOND_US  # 2100-01-01, so that nothing starts meanwhile
_INPUT: Final = b'{"customer":"c-48213","items":[{"sku":"A-1","n":2},{"sku":"B-7","n":1}],"note":""}'
_HEADERS: Final = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
_OUTPUT: Final = b'{"order":"o-99120","total":4711}'
_FAILURE: Final = "connection refused: payments.internal:443"
_IN_FLIGHT: Final = 200  # invocations of the mixed workload at a time; below the bound on deliveries
_TICK_EVERY: Final = 500  # records of the mixed workload


class _Life(NamedTuple):
    """What becomes of an invocation of the mixed workload, and in how many cases of a hundred."""

    percent: int
    first: type[messages.Report]
    """How its first attempt ends."""
    second: type[messages.Report] | None = None
    """How its second attempt ends, after a retry."""


# On average three reports for each invocation, `started` of every attempt included.
_LIVES: Final = (
    _Life(40, messages.Completed),
    _Life(10, messages.Suspended),
    _Life(40, messages.BackingOff, messages.Completed),
    _Life(10, messages.BackingOff, messages.Suspended),
)


def source(name: str, round: int = 0) -> random.Random:
    """Chance for one purpose: no two share an id, and every run has the same."""
    return random.Random(f"{SEED}/{name}/{round}")


def new_id(rng: random.Random, partition: int = 0, partitions: int = 1) -> str:
    """An id that lives in this partition out of so many, which must be a power of two."""
    first = (partition << 64) // partitions
    return ids.invocation_id(first + rng.getrandbits(64) // partitions, rng.getrandbits(128))


def scheduled(count: int) -> list[bytes]:
    """Invocations that are due in a lifetime."""
    rng = source("scheduled")
    return [schedule(new_id(rng)) for _ in range(count)]


def schedule(id: str, service: str = SERVICE) -> bytes:
    """An invocation that is due in a lifetime."""
    return messages.encode(
        messages.Invoke(id=id, service=service, handler="greet", input=_INPUT, headers=_HEADERS, due_at=_FAR_US)
    )


def entry(value: bytes) -> Entry:
    """A command as it is appended to the one partition there is."""
    return Entry(Stream.COMMANDS, 0, value)


def invoke(id: str, service: str = "Checkout") -> bytes:
    """An invocation that starts at once."""
    return messages.encode(messages.Invoke(id=id, service=service, handler="process", input=_INPUT, headers=_HEADERS))


def of_one_key(count: int) -> Iterator[bytes]:
    """Invocations of one key of a virtual object: the first gets it, the others wait."""
    rng = source("of one key")
    partition_key = ids.key_partition_key(HOT_KEY)
    for _ in range(count):
        yield messages.encode(
            messages.Invoke(
                id=ids.invocation_id(partition_key, rng.getrandbits(128)),
                service="Cart",
                handler="add",
                key=HOT_KEY,
                type=int(ServiceType.VIRTUAL_OBJECT),
                input=_INPUT,
                headers=_HEADERS,
            )
        )


def calls(parent: str, children: int) -> Iterator[bytes]:
    """Reports by which a running invocation calls so many children."""
    call = Step(kind=StepKind.CALL, call=Call(service="Child", handler="process", input=_INPUT))
    for first in range(0, children, limits.STEPS_PER_REPORT_MAX):
        count = min(limits.STEPS_PER_REPORT_MAX, children - first)
        yield messages.encode(messages.Steps(id=parent, attempt=1, first=first, steps=(call,) * count))


def mixed(count: int, round: int = 0, first_tick: int = 1, *, partition: int = 0, partitions: int = 1) -> list[bytes]:
    """Invocations of one partition with the reports on them, interleaved as if so many participants ran them at a time.

    Retries are due at once and are started by ticks, which stand among the records.
    """
    rng = source("mixed", round)
    records: list[bytes] = []
    running: list[list[list[bytes]]] = []
    backing_off: list[list[list[bytes]]] = []
    left, tick, since_tick = count, first_tick, 0
    while left or running or backing_off:
        while left and len(running) + len(backing_off) < _IN_FLIGHT:
            running.append(_attempts(rng, new_id(rng, partition, partitions)))
            left -= 1
        if since_tick == _TICK_EVERY or not running:
            records.append(messages.encode(messages.Tick(tick=tick)))
            tick, since_tick = tick + 1, 0
            running += backing_off
            backing_off.clear()
            continue
        place = rng.randrange(len(running))
        attempts = running[place]
        records.append(attempts[0].pop(0))
        since_tick += 1
        if not attempts[0]:
            del attempts[0]
            running[place] = running[-1]
            running.pop()
            if attempts:
                backing_off.append(attempts)
    return records


def _attempts(rng: random.Random, id: str) -> list[list[bytes]]:
    """The records of one invocation by attempt; between two attempts it waits for a tick."""
    life = rng.choices(_LIVES, [life.percent for life in _LIVES])[0]
    attempts = []
    for attempt, ends in enumerate((life.first, life.second), 1):
        if ends is not None:
            started = messages.encode(messages.Started(id=id, attempt=attempt, deployment="dp_17"))
            attempts.append([started, messages.encode(_report(ends, id, attempt))])
    attempts[0].insert(0, invoke(id))
    return attempts


def _report(kind: type[messages.Report], id: str, attempt: int) -> messages.Report:
    if kind is messages.BackingOff:
        return messages.BackingOff(id=id, attempt=attempt, retry_at=1, failure=_FAILURE, retry=attempt)
    if kind is messages.Completed:
        return messages.Completed(id=id, attempt=attempt, outcome="success", output=_OUTPUT)
    return messages.Suspended(id=id, attempt=attempt)


def kill(request: str, filter: Filter, *, paused: bool = False) -> bytes:
    """A batch that kills what the filter selects."""
    return messages.encode(
        messages.Batch(request=request, action="kill", filter=filter, not_after=_FAR_US, paused=paused)
    )


def abort(request: str) -> bytes:
    """The end of a batch before its time."""
    return messages.encode(messages.Control(request=request, revision=1, aborted=True))
