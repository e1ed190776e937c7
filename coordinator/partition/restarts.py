"""Restart as new: another invocation of the same target with the same input, made from a completed one.

The old one stays as it is, but that it names the new one. The new one is created by an ordinary invoke record, so it
is in scope of whatever comes after *that* record's position, and of nothing before. Its idempotency key is not taken
over, which would only answer with the old one; nor are its parent, which has had its answer, and its deployment.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from coordinator.model import ids, messages
from coordinator.model.invocation import Invocation, Payload, ServiceType, status_name
from coordinator.model.statuses import Action, Counter
from coordinator.partition import outbox
from coordinator.partition.outputs import Answer

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_WORKFLOW: Final = int(ServiceType.WORKFLOW)


class _Refusal(NamedTuple):
    """Why a completed invocation cannot be restarted, and what a batch counts for that."""

    counter: Counter
    reason: str


def _refusal(row: Invocation, payload: Payload) -> _Refusal | None:
    if row.type == _WORKFLOW:
        return _Refusal(Counter.NOT_APPLICABLE, f"it belongs to a workflow; {Action.RESTART_AS_NEW} does not apply")
    if payload.imported:
        return _Refusal(Counter.FAILED, "it was imported without its input; start another one with what it was sent")
    return None


def restart_one(m: "Machine", row: Invocation) -> Answer:
    """An operator asks for it, of one invocation that is completed; answered with the id of the new one."""
    payload = m.store.payload(row.seq)
    refusal = _refusal(row, payload)
    if refusal is not None:
        return Answer(m.position, 409, row.id, status_name(row), f"{row.id} cannot be restarted: {refusal.reason}")
    return Answer(m.position, 202, _restart(m, row, payload, m.position))


def restart_match(m: "Machine", row: Invocation, position: int, *, dry_run: bool) -> Counter:
    """A batch in force from this position on matches a completed row."""
    row.caught_up_to = position
    m.store.save(row)
    payload = m.store.payload(row.seq)
    refusal = _refusal(row, payload)
    if refusal is not None:
        return refusal.counter
    if not dry_run:
        m.sends_left += 1  # beside what its row may send anyway: one for each batch that restarts it
        _restart(m, row, payload, position)
    return Counter.APPLIED


def _restart(m: "Machine", row: Invocation, payload: Payload, position: int) -> str:
    new = ids.derived_id(f"{row.id}/restart", position, row.key)
    invoke = messages.Invoke(
        id=new,
        service=row.service,
        handler=row.handler,
        key=row.key,
        type=row.type,
        shared=row.shared,
        input=payload.input,
        headers=payload.headers,
        restarted_from=row.id,
    )
    if row.retention != invoke.retention:  # a default is left out by identity: the bytes would depend on a cache
        invoke.retention = row.retention
    outbox.send_to_partition(m, outbox.partition_of(m, new), invoke)
    payload.restarted_as = new
    m.store.save_payload(row.seq, payload)
    return new
