"""Small alphabets of services, keys, ids and the like, so that what is random collides."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from coordinator.model import ids
from coordinator.model.journal import Call, Step, StepKind

SECOND = 1_000_000
DAY = 86_400 * SECOND


class Target(NamedTuple):
    service: str
    handler: str
    type: int
    keys: tuple[str, ...] = ()
    shared: bool = False


TARGETS = (
    Target("Greeter", "greet", 0),
    Target("Greeter", "wave", 0),
    Target("Cart", "add", 1, ("a", "b")),
    Target("Cart", "pay", 1, ("a", "b")),
    Target("Cart", "get", 1, ("a", "b"), shared=True),
    Target("Room", "book", 1, ("a", "c")),
    Target("Flow", "run", 2, ("a", "c")),
    Target("Flow", "peek", 2, ("a", "c"), shared=True),
)
SERVICES = ("Greeter", "Cart", "Room", "Flow", "Nobody")
HANDLERS = ("greet", "wave", "add", "pay", "get", "book", "run", "peek")
KEYS = ("a", "b", "c")
DEPLOYMENTS = ("dp1", "dp2")
RETENTIONS = (0, SECOND, 60 * SECOND, DAY)


def target(rng: random.Random) -> dict[str, Any]:
    """The fields of a random target."""
    of = rng.choice(TARGETS)
    key = rng.choice(of.keys) if of.keys else None
    return {"service": of.service, "handler": of.handler, "type": of.type, "key": key, "shared": of.shared}


def new_id(rng: random.Random, key: str | None) -> str:
    """An id that fits the key; one of few, so that it may be taken."""
    return ids.derived_id(f"c{rng.randrange(30)}", 0, key)


def imported_id(rng: random.Random, key: str | None) -> str:
    """The same for what comes from another system."""
    return ids.derived_id(f"i{rng.randrange(12)}", 0, key)


def step(rng: random.Random) -> Step:
    """A random step; half of them are calls."""
    kind = rng.choice((*(StepKind.CALL,) * 6, StepKind.SEND, StepKind.SEND, *StepKind))
    match kind:
        case StepKind.CALL | StepKind.SEND:
            call = Call(
                **target(rng),
                input=rng.choice((None, b"in")),
                delay=0 if kind is StepKind.CALL else rng.choice((0, 0, SECOND, 60 * SECOND)),
                idempotency_key=rng.choice((None, None, None, "once", "twice")),
                retention=rng.choice((None, *RETENTIONS)),
            )
            return Step(kind=kind, call=call)
        case StepKind.SLEEP:
            return Step(kind=kind, duration=rng.choice((0, SECOND, 60 * SECOND)))
        case StepKind.CANCEL:
            return Step(kind=kind, name=new_id(rng, rng.choice((None, *KEYS))))
    return Step(kind=kind, name=rng.choice(("one", "two")), value=rng.choice((None, b"value")), number=rng.randrange(3))


def lanes(rng: random.Random) -> tuple[str, ...]:
    """What may be served: most of it."""
    every = (*SERVICES, *(f"@{deployment}" for deployment in (*DEPLOYMENTS, "dp3")))
    return tuple(lane for lane in every if rng.random() < 0.8)
