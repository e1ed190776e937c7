"""The partition machine.

Theory of operation
-------------------
`Machine.apply` takes one record of the partition's log and changes the store; it is the only way in. The
same records give the same store and the same outbox, however they are cut into runs: nothing here reads a
clock, draws a number or knows what has been published.

1. **Read through the choke point.** Every look-up of a row goes through `Machine.row_by_id`/`row_by_seq`,
   which fold the pending batches above the row's `caught_up_to` into it first (`catch_up`). `save` refuses a
   row that did not come this way, so forgetting it is an error at run time and not a silent survivor.
2. **Change.** A handler, one for each message kind, changes the rows that the record names.
3. **Consequences.** What follows for other rows is put on `todo` and worked off at the end of the record
   while `rows_left` lasts; the rest is stored as work items, which ticks drain (`work`).
4. **Send.** Whatever others must learn goes to the outbox, numbered per destination (`outbox`).

Not to look for here: batches (`batches`, `scans`, `catchup`), timers and ticks (`ticks`, `timers`), keys
(`keys`), call trees (`trees`), one invocation and its verbs (`lifecycle`, `invoke`, `reports`, `actions`), what its
handler does (`steps`), and handing it to a participant (`deliveries`, `contexts`).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import xxhash

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError, CorruptionError
from coordinator.model.invocation import Invocation
from coordinator.partition import (
    actions,
    batches,
    catchup,
    deliveries,
    imports,
    invoke,
    outbox,
    reports,
    steps,
    ticks,
    trees,
    work,
)
from coordinator.partition.outputs import Answer, Outgoing
from coordinator.partition.pending import Pending, in_force
from coordinator.partition.state import DEAD_LETTERS, BatchState, Phase, State, decode_batch, decode_state
from coordinator.stores.port import Store, Work


class LogRecord(Protocol):
    """What the machine needs of a log's record."""

    @property
    def position(self) -> int: ...
    @property
    def appended_at(self) -> int: ...
    @property
    def value(self) -> bytes: ...


class Machine:
    """One partition's state machine over an open store."""

    def __init__(self, store: Store, *, partition: int, partitions: int, log: str = "") -> None:
        """Resume where the store stands, or start at the beginning of the log.

        Raises CorruptionError when the store belongs to another partition or log.
        """
        self.store: Final = store
        stored = store.load_state()
        if stored is None:
            self.state = State(partition=partition, partitions=partitions, log=log)
        else:
            self.state = decode_state(stored)
        mine = (self.state.partition, self.state.partitions, self.state.log)
        if mine != (partition, partitions, log):
            raise CorruptionError(
                f"the store belongs to partition {mine[0]} of {mine[1]} of log {mine[2]!r}, not to {partition} of "
                f"{partitions} of {log!r}; give the worker the data directory that belongs to its log, or an empty one"
            )
        self.batches: dict[str, BatchState] = {}
        self.by_position: dict[int, BatchState] = {}
        self.pending: list[Pending] = []
        self.newest_pending = -1
        self.prepared: set[int] = set()
        """Positions of those that await their commit; each keeps its place among the pending ones."""
        self.graces: dict[int, BatchState] = {}
        """Cancels, by position, whose grace may still have something to kill."""
        self.changed_batches: dict[int, BatchState] = {}
        self.owing: dict[int, BatchState] = {}
        self._load_batches()
        # Of the record that is being applied:
        self.position = self.state.position
        self.now = self.state.now
        self.rows_left = 0
        self.sends_left = 0
        self.looked_up: set[int] = set()
        self.todo: deque[Work] = deque()
        self.to_settle: deque[BatchState] = deque()
        """Batches that may be over once `todo` is worked off."""
        self.made_ready: list[Invocation] = []
        self.served: frozenset[str] | None = None
        self.open_lanes: set[str] = set()
        """Lanes that are served, with a slot that is free and somebody who waits for it."""
        deliveries.look_at_lanes(self)
        # For whoever drives the machine:
        self.tick_filled = False
        """Whether the last tick stopped at one of its quotas, so that its time tells how long such a one takes."""
        self.outgoing: list[Outgoing] = []

    def _load_batches(self) -> None:
        for _, _, value in self.store.batches():
            state = decode_batch(value)
            self.batches[state.request] = state
            self.index_batch(state)
            if state.owes:
                self.owing[state.position] = state
            if state.phase is Phase.PREPARED:
                self.prepared.add(state.position)
            if state.grace is not None:
                self.graces[state.position] = state
        self.pending = in_force(self.batches.values(), self.store)
        self.newest_pending = self.pending[-1].position if self.pending else -1

    def index_batch(self, state: BatchState) -> None:
        """Let the batch be found by the positions at which it takes effect."""
        for position in (*state.positions, state.announced_at):
            if position is not None:
                self.by_position[position] = state

    def note(self, state: BatchState) -> None:
        """The batch has changed, and progress is owed for it."""
        state.owes = True
        self.changed_batches[state.position] = state
        self.owing[state.position] = state

    # -- one record ------------------------------------------------------------------------------------------

    def apply(self, record: LogRecord) -> Answer | None:
        """Apply the record after the last one; what to tell its sender, if it has one that waits.

        Raises CorruptionError when records are missing or the state contradicts itself, and
        UnknownLevelError at a level record that needs a newer build. The store is then to be rolled back.
        """
        state = self.state
        if record.position != state.position + 1:
            raise CorruptionError(
                f"partition {state.partition} has applied up to position {state.position} and was given "
                f"{record.position}; the records between them are missing from the log"
            )
        self.position = state.position = record.position
        if record.appended_at > state.now:
            state.now = record.appended_at
        self.now = state.now
        self.rows_left = limits.ROWS_PER_RECORD_MAX
        self.sends_left = limits.ROWS_PER_RECORD_MAX * limits.OUTBOX_PER_ROW_MAX
        self.looked_up.clear()
        command, refusal = self._read(record.value)
        if command is None:
            return self._dead_letter(record.value, refusal)
        if command.source >= 0 and not self._is_next(command):
            return None
        try:
            answer = _HANDLERS[type(command)](self, command)
        except CallerError as error:
            answer = self._dead_letter(record.value, str(error))  # what it looked up was caught up all the same
        if self.todo:
            work.drain(self)
        if self.made_ready or self.open_lanes:
            deliveries.dispatch(self)
            while self.todo:  # what catching up the backlog's entries has led to, and what is longer than a start
                work.drain(self)
                deliveries.dispatch(self)
        return answer

    def _read(self, value: bytes) -> tuple[Any, str]:
        """The command, or None and why it is none. The reason is the same in every build of a level."""
        if len(value) > limits.RECORD_BYTES_MAX:
            return None, f"it has {len(value)} bytes; a record may have {limits.RECORD_BYTES_MAX}"
        try:
            command = messages.decode_command(value)
        except messages.UNREADABLE:
            return None, self._why_unreadable(value)
        if command.v > self.state.level:
            return None, self._above_level(command.v)
        if command.source >= self.state.partitions:
            return None, f"its source partition {command.source} does not exist"
        if command.source < 0 and isinstance(command, _BETWEEN_PARTITIONS):
            return None, "only partitions send it to each other, numbered by their outbox"
        return command, ""

    def _above_level(self, version: int) -> str:
        return f"its schema version {version} is above the partition's level {self.state.level}"

    def _why_unreadable(self, value: bytes) -> str:
        head = messages.read_head(value)
        if head is None:
            return "it is not a message: a msgpack map with kind and v is expected"
        kind, version = head
        if version > self.state.level:
            return self._above_level(version)
        return f"it is not a command of kind {kind} as the schema of version {version} has it"

    def _dead_letter(self, value: bytes, reason: str) -> Answer:
        letter = messages.DeadLetter(
            partition=self.state.partition,
            position=self.position,
            reason=reason,
            value=value[: limits.RECORD_BYTES_MAX],
        )
        outbox.send(self, DEAD_LETTERS, letter)
        return Answer(self.position, 400, detail=reason)

    def _is_next(self, command: messages.Command) -> bool:
        """Whether this is the next message of its source partition; lower ones are repeats."""
        last = self.state.received.get(command.source, 0)
        if command.number <= last:
            return False
        if command.number > last + 1:
            raise CorruptionError(
                f"partition {command.source} sent number {command.number} after {last} to partition "
                f"{self.state.partition}; messages between them are missing, so nothing may be applied past it"
            )
        self.state.received[command.source] = command.number
        return True

    # -- the choke point -------------------------------------------------------------------------------------

    def row_by_id(self, id: str) -> Invocation | None:
        """The invocation of this id as all batches up to here have left it."""
        row = self.store.by_id(id)
        return row if row is None else self.seen(row)

    def row_by_seq(self, seq: int) -> Invocation | None:
        """The invocation with this creation number as all batches up to here have left it."""
        row = self.store.by_seq(seq)
        return row if row is None else self.seen(row)

    def seen(self, row: Invocation) -> Invocation | None:
        """Count the row against the record's bound and catch it up; None when a batch has purged it."""
        self.rows_left -= 1
        if self.rows_left < 0:
            raise CorruptionError(f"the record at {self.position} touches more rows than its limit allows")
        self.looked_up.add(row.seq)
        if row.caught_up_to < self.newest_pending:
            return catchup.catch_up(self, row)
        return row

    def save(self, row: Invocation) -> None:
        """The record has changed this row, now. It must have been looked up, so that it is caught up."""
        if row.seq not in self.looked_up:
            raise CorruptionError(f"{row.id} was changed at {self.position} without being caught up before")
        row.modified_at = self.now
        row.caught_up_to = self.position
        self.store.save(row)

    # -- a run -----------------------------------------------------------------------------------------------

    def finish_run(self, last: LogRecord) -> None:
        """Write what is kept in memory, before the commit of a run that ended with this record."""
        self.state.digest = xxhash.xxh3_64_intdigest(last.value)
        self.flush()

    def flush(self) -> None:
        """Write the scalars and the batches that have changed into the open transaction."""
        for position, batch in self.changed_batches.items():
            if self.batches.get(batch.request) is batch:
                self.store.batch_put(position, batch.request, msgspec.msgpack.encode(batch))
        self.changed_batches.clear()
        self.store.save_state(msgspec.msgpack.encode(self.state))

    def take_outgoing(self) -> list[Outgoing]:
        """The outbox entries since the last call, in order."""
        outgoing, self.outgoing = self.outgoing, []
        return outgoing


_BETWEEN_PARTITIONS: Final = (messages.ChildEnded, messages.EndChildren, messages.Adopt)

Handler = Callable[[Machine, Any], Answer | None]

_HANDLERS: Final[dict[type, Handler]] = {
    messages.Invoke: invoke.invoke,
    messages.Import: imports.import_row,
    messages.ImportEnd: imports.import_end,
    messages.Act: actions.act_on_one,
    messages.Batch: batches.batch,
    messages.Control: batches.control,
    messages.Commit: batches.commit,
    messages.Tick: ticks.tick,
    messages.Level: ticks.level,
    messages.Started: reports.started,
    messages.Suspended: reports.suspended,
    messages.BackingOff: reports.backing_off,
    messages.Paused: reports.gave_up,
    messages.Completed: reports.completed,
    messages.Steps: steps.steps,
    messages.Released: reports.released,
    messages.Serve: deliveries.serve,
    messages.ChildEnded: trees.child_ended,
    messages.EndChildren: trees.end_children,
    messages.Adopt: trees.adopt,
}
