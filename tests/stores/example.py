"""Rows for tests: whole invocations of which a test names what it is about."""

from typing import Any

from coordinator.model.invocation import Invocation


def row(seq: int, **changes: Any) -> Invocation:
    """A ready invocation of a plain service, created at its seq."""
    values: dict[str, Any] = {
        "seq": seq,
        "id": f"inv_{seq}",
        "service": "Greeter",
        "handler": "greet",
        "key": None,
        "type": 0,
        "shared": False,
        "created_at": seq,
        "parent": None,
        "detached": False,
        "idempotency_key": None,
        "retention": 1_000,
        "status": 2,
        "outcome": None,
        "modified_at": seq,
        "scheduled_at": None,
        "completed_at": None,
        "timer_at": None,
        "deployment": "dp_1",
        "attempt": 0,
        "retry": 0,
        "last_failure": None,
        "children": 0,
        "cancel": 0,
        "cancel_batch": None,
        "batch": None,
        "ties": 0,
        "caught_up_to": 0,
    }
    return Invocation(**values | changes)
