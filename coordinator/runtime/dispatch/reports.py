"""What participants report, as it is appended: only what is theirs to say, with what the server knows better.

A report stands on the log as its participant sent it, but for what depends on the registry (the type of what is
called, whether its handler is shared, how long it is kept) and on the session (its deployment).
"""

from typing import Final, NamedTuple

import msgspec

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.requests.deployments import Registry

LETS_GO: Final = (messages.Completed, messages.Suspended, messages.BackingOff, messages.Paused, messages.Released)
"""With these a participant says that it no longer has the attempt."""

AnyReport = (
    messages.Started | messages.Steps | messages.Suspended | messages.BackingOff | messages.Paused
    | messages.Completed | messages.Released
)  # fmt: skip
_decode: Final = msgspec.msgpack.Decoder(AnyReport).decode


class Read(NamedTuple):
    """A report, and the record that it becomes."""

    report: messages.Report
    value: bytes


def read(value: bytes, deployment: str, registry: Registry) -> Read:
    """A report of a session of this deployment. Raises CallerError when it is none."""
    try:
        report: messages.Report = _decode(value)
    except messages.UNREADABLE as error:
        raise CallerError(f"it is no report: {error}") from None
    if report.v > limits.SCHEMA_LEVEL:
        raise CallerError(f"its schema version {report.v} is above {limits.SCHEMA_LEVEL}, which this server knows")
    if report.source != -1 or report.number != 0:
        raise CallerError("only partitions number what they send; leave source and number out")
    if isinstance(report, messages.Started):
        report.deployment = deployment
        value = messages.encode(report)
    elif isinstance(report, messages.Steps) and _set_terms(report, registry):
        value = messages.encode(report)
    if len(value) > limits.RECORD_BYTES_MAX:
        raise CallerError(f"a report may have {limits.RECORD_BYTES_MAX} bytes; this one has {len(value)}")
    return Read(report, value)


def _set_terms(report: messages.Steps, registry: Registry) -> bool:
    """Give each call what it has from its service; whether there is one."""
    called = False
    for step in report.steps:
        call = step.call
        if call is not None:
            called = True
            terms = registry.terms(call.service, call.handler, call.key, call.idempotency_key)
            call.type, call.shared, call.retention = int(terms.type), terms.shared, terms.retention
    return called
