"""The journal of an invocation: what its handler has done so far, step by step.

A step is whatever a handler asks of its context. Steps are numbered in the order in which the handler's code
asks for them, from 0. What a step has come to is kept, so that a later attempt runs the same code, is given the
same results, and does nothing a second time.

A kind and a name say what a step is. A later attempt that asks for something else under the same number runs
other code than the one before it, or code that is not deterministic.
"""

from enum import IntEnum

import msgspec

from coordinator.model.scalars import Count, Duration, Time


class StepKind(IntEnum):
    """What a step does. Stored and sent; never reused."""

    CALL = 1
    """Calls another target and waits for its result."""
    SEND = 2
    """Calls another target and forgets about it."""
    SLEEP = 3
    RUN = 4
    """Runs a function of the handler's own; its result is kept."""
    GET = 5
    SET = 6
    CLEAR = 7
    RACE = 8
    """Waits for the first of several; which one that was is kept."""
    SURFACED = 9
    """The cancellation has surfaced while the handler awaited the step `number`."""
    CANCEL = 10
    """Asks another invocation to cancel."""


class Call(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One call of a running handler to another target."""

    service: str
    handler: str
    key: str | None = None
    type: Count = 0
    """0 service, 1 virtual object, 2 workflow."""
    shared: bool = False
    input: bytes | None = None
    headers: dict[str, str] = {}
    delay: Duration = 0
    """How long after the step it is to start, for one that is sent."""
    idempotency_key: str | None = None
    retention: Duration | None = None
    """How long it is kept after its end; None as the default is."""


class Step(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step as its participant reports it."""

    kind: Count
    """A StepKind."""
    name: str = ""
    """Which one: the name of a run or of a state entry, the id of what is asked to cancel."""
    call: Call | None = None
    duration: Duration = 0
    """Of a sleep."""
    value: bytes | None = None
    """What a run gave, what a state entry is set to or was when it was read."""
    failure: str | None = None
    """Why a run failed for good."""
    number: Count = 0
    """Of a race the place of the winner; of SURFACED the step that was awaited."""


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step as its partition keeps it and tells later attempts."""

    step: Count
    kind: Count
    """A StepKind."""
    name: str = ""
    """As in Step; of a call or send the target: `Greeter/greet`, `CartObject/cart55/add`."""
    done: bool = True
    """Whether its result is known. A call's is not until it has ended."""
    value: bytes | None = None
    failure: str | None = None
    outcome: str | None = None
    """How a call has ended: `success`, `failure`, `cancelled`, `killed`."""
    number: Count = 0
    due_at: Time | None = None
    """When a sleep is over."""
    child: str | None = None
    """Id of the invocation that was called, sent, or asked to cancel."""
    withheld: bool = False
    """It came while the invocation was to be cancelled and was not told of it yet. Told only after that, so
    that a handler does not take a child's cancellation for a failure of the child."""
    awaited: Count = 0
    """The newest attempt that was suspended until this is done; 0: none was."""
