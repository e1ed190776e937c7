"""What an attempt needs to go on where the one before it was: its journal, and the state of its key.

A start carries the beginning; what is longer follows in pieces, sent by a work item, and the participant waits for
the last. What changes meanwhile is told beside it, and a piece shows it as it is when it is sent.

The state of a virtual object belongs to its key. That of a workflow belongs to its run, so that a run which is
purged takes it along and the next one of the key begins with none.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from coordinator.model import limits, messages
from coordinator.model.invocation import HELD, CancelState, Invocation, ServiceType
from coordinator.model.journal import Entry
from coordinator.partition import outbox
from coordinator.partition.state import DELIVERIES
from coordinator.stores.port import Work

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine

_JOURNAL: Final = "journal "
_VALUES: Final = "values "
_ROWS_PER_PIECE: Final = 32
"""What sending a piece counts for among the rows of a tick, so that a tick sends a few megabytes at most."""
_NOTHING: Final[dict[str, bytes]] = {}


class Piece(NamedTuple):
    """Some of an attempt's journal and state."""

    entries: tuple[Entry, ...] = ()
    values: dict[str, bytes] = _NOTHING


def first(m: "Machine", row: Invocation) -> tuple[Piece, str | None]:
    """What goes with the start of this attempt, and where the rest begins, None where that is all."""
    if row.attempt == 1 and row.type == ServiceType.SERVICE:
        return Piece(), None
    return _piece(m, row, f"{_JOURNAL}-1")


def send_rest(m: "Machine", item: Work) -> bool:
    """Send further pieces to an attempt that still stands; False when there are more."""
    while m.rows_left > 0:
        row = m.row_by_seq(int(item.a))
        if row is None or row.attempt != int(item.b) or not row.ties & HELD:
            return True
        m.rows_left += 1  # for the run whose state it may see
        piece, cursor = _piece(m, row, item.cursor)
        m.rows_left -= _ROWS_PER_PIECE
        context = messages.Context(
            id=row.id, attempt=row.attempt, entries=piece.entries, values=piece.values, last=cursor is None
        )
        outbox.send(m, DELIVERIES, context)
        if cursor is None:
            return True
        item.cursor = cursor
    return False


def _piece(m: "Machine", row: Invocation, cursor: str) -> tuple[Piece, str | None]:
    """As much as one delivery carries, from a cursor on; the next cursor, None at the end."""
    entries: list[Entry] = []
    values: dict[str, bytes] = {}
    room = limits.CONTEXT_BYTES_MAX
    if cursor.startswith(_JOURNAL):
        after = int(cursor.removeprefix(_JOURNAL))
        found = m.store.journal(row.seq, after, limits.CONTEXT_ENTRIES_MAX)
        for entry in found:
            room -= len(entry.value or b"") + len(entry.name) + len(entry.failure or "")
            if room < 0 and entries:
                return Piece(tuple(entries)), f"{_JOURNAL}{entries[-1].step}"
            entries.append(as_told(row, entry))
        if len(found) == limits.CONTEXT_ENTRIES_MAX:
            return Piece(tuple(entries)), f"{_JOURNAL}{entries[-1].step}"
        cursor = _VALUES
    where = space(m, row)
    if where is None:
        return Piece(tuple(entries)), None
    found_values = m.store.values(row.service, where, cursor.removeprefix(_VALUES), limits.CONTEXT_ENTRIES_MAX)
    last = cursor.removeprefix(_VALUES)
    for name, value in found_values:
        room -= len(name) + len(value)
        if room < 0 and (values or entries):
            return Piece(tuple(entries), values), _VALUES + last
        values[name] = value
        last = name
    more = len(found_values) == limits.CONTEXT_ENTRIES_MAX
    return Piece(tuple(entries), values), _VALUES + last if more else None


def is_over(m: "Machine", row: Invocation, entry: Entry) -> bool:
    """Whether a call or sleep has come to its end, as far as its invocation may know."""
    if entry.due_at is not None:
        return entry.due_at <= m.now
    return entry.done and not _is_withheld(row, entry)


def as_told(row: Invocation, entry: Entry) -> Entry:
    """The entry as a participant may see it: what is withheld has not happened before the cancel is signalled."""
    if _is_withheld(row, entry):
        return Entry(step=entry.step, kind=entry.kind, name=entry.name, child=entry.child, done=False)
    if entry.withheld or entry.awaited:
        return msgspec.structs.replace(entry, withheld=False, awaited=0)
    return entry


def _is_withheld(row: Invocation, entry: Entry) -> bool:
    return entry.withheld and row.cancel == CancelState.REQUESTED


def space(m: "Machine", row: Invocation) -> str | None:
    """Where the state that a handler sees is kept, under its service; None where it has none."""
    if row.type == ServiceType.SERVICE or row.key is None:
        return None
    if row.type == ServiceType.VIRTUAL_OBJECT:
        return row.key
    run: Invocation | None = row
    if sees_another(row):
        run = m.store.by_workflow_key(row.service, row.key)
        run = None if run is None else m.seen(run)
    return None if run is None else space_of_run(run)


def sees_another(row: Invocation) -> bool:
    """Whether the state that it sees is another row's: a shared handler of a workflow sees that of the run."""
    return row.shared and row.type == ServiceType.WORKFLOW


def space_of_run(run: Invocation) -> str:
    """Where the state of a workflow's run is kept."""
    return f"{run.key}\0{run.seq}"
