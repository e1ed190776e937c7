"""A partition whose every step is compared with the eager model.

The machine's choke point and the store's writes are watched from outside. After each record:

- every row that was looked at was, at that moment, what the eager model says; what the record then did to it
  is taken over, if it may: a completed row may only go or be stamped, and is never started;
- every row that was written, and all rows whenever the list of pending batches has changed, equal the eager
  model as seen, with the pending batches folded in;
- the counts of batches, the holders of keys and the bounds are what the model says.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from coordinator.model import ids, limits, messages
from coordinator.model.invocation import HELD, Invocation, Payload, ServiceType
from coordinator.model.statuses import ACTIONS, TRANSITIONS, UNCHANGED, Action, Outcome, Status
from coordinator.partition import glimpse
from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Answer, Outgoing
from coordinator.partition.state import DELIVERIES, BatchState, Phase
from coordinator.stores.memory import MemoryStore
from coordinator.stores.port import Condition, Slice
from tests.simulation.cluster import LOG, Partition, Record, decode
from tests.simulation.eager import EagerBatch, EagerModel
from tests.simulation.keys import Keys

_COMPLETED = int(Status.COMPLETED)
_DERIVED_EVERY = 4
"""Records between two looks at what is derived, each of which starts a machine."""
_STAMPS = ("batch", "caught_up_to")


class WatchedStore(MemoryStore):
    """Notes which rows a transaction may have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[int] = set()
        self.swept: list[Slice] = []
        self.keys: set[tuple[str, str]] = set()
        self.inserted: set[int] = set()

    def begin(self) -> None:
        self.written.clear()
        self.swept.clear()
        self.keys.clear()
        self.inserted.clear()
        super().begin()

    def insert(self, row: Invocation, payload: Payload | None) -> None:
        self.written.add(row.seq)
        self.inserted.add(row.seq)
        super().insert(row, payload)

    def save(self, row: Invocation) -> None:
        self.written.add(row.seq)
        super().save(row)

    def remove(self, row: Invocation) -> None:
        self.written.add(row.seq)
        super().remove(row)

    def sweep(self, part: Slice, condition: Condition, *args: Any) -> int:
        self.swept.append(part)
        return super().sweep(part, condition, *args)

    def mark_members(self, part: Slice, *args: Any) -> int:
        self.swept.append(part)
        return super().mark_members(part, *args)

    def set_holder(self, service: str, key: str, seq: int | None) -> None:
        self.keys.add((service, key))
        super().set_holder(service, key, seq)

    def queue_push(self, service: str, key: str, *args: Any) -> None:
        self.keys.add((service, key))
        super().queue_push(service, key, *args)


class WatchedMachine(Machine):
    """Shows each row right after its catch-up to whoever watches."""

    watch: WatchedPartition

    def seen(self, row: Invocation) -> Invocation | None:
        before = copy(row) if row.seq in self.watch.looked_at else None
        result = super().seen(row)
        if before is None:
            self.watch.caught_up(row.seq, result)
        else:
            assert result == before, f"row {row.seq} was caught up twice by one record, differently"
        return result


class WatchedPartition(Partition):
    """One partition beside its eager model."""

    machine: WatchedMachine
    store: WatchedStore

    def __init__(self, number: int, partitions: int) -> None:
        self.stored: dict[int, Invocation] = {}
        """Every row as the store had it after the last record."""
        self.model = EagerModel(self.stored.get)
        self.looked_at: dict[int, Invocation | None] = {}
        self.keys = Keys()
        self.held = 0
        self.now = 0
        self.created: set[str] = set()
        self.used_again: set[str] = set()
        """Ids that were purged and came back: what is under way for the old one may still meet the new one."""
        self.sent_before: dict[str, int] = {}
        """Request that was forgotten → entries of the outbox before that."""
        self.propagated: dict[str, int] = {}
        """Request → how many were ended here because of their parent."""
        self.restarted = 0
        """Restarted one by one."""
        super().__init__(number, partitions, WatchedStore())

    def open(self) -> WatchedMachine:
        machine = WatchedMachine(self.store, partition=self.number, partitions=self.partitions, log=LOG)
        machine.watch = self
        return machine

    # -- one record ------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> tuple[Answer | None, list[Outgoing]]:
        self.now = max(self.now, record.appended_at)
        self.looked_at.clear()
        command = decode(record.value)
        if command is not None and command.v == 1 and len(record.value) <= limits.RECORD_BYTES_MAX:
            self._tell_model(command, record.position)
        expected = self._expected_answer(command)
        known = set(self.machine.batches) if isinstance(command, messages.Tick) else set()
        next_seq, last_tick = self.machine.state.next_seq, self.machine.state.tick
        pending = [entry.position for entry in self.machine.pending]
        self.store.begin()
        answer = self.machine.apply(record)
        changed = list(self.machine.changed_batches.values())
        self.machine.finish_run(record)
        self.store.commit()
        outgoing = self.machine.take_outgoing()
        for request in known - set(self.machine.batches):
            self.sent_before[request] = len(self.sent) + len(outgoing)
            self.propagated.pop(request, None)
        if isinstance(command, messages.Tick):
            taken = command.tick == last_tick + 1
            assert self.machine.state.tick == last_tick + taken, f"{command} after tick {last_tick}"
        if expected is not None and answer is not None and answer.code != 400:
            created = self.machine.state.next_seq > next_seq
            assert (answer.code, answer.id, created) == expected, f"{command}\n is answered {answer}, not {expected}"
        self._compare(command, next_seq, pending, outgoing, changed)
        return answer, outgoing

    def _tell_model(self, command: messages.Command, position: int) -> None:
        if isinstance(command, messages.Batch | messages.Control | messages.Commit):
            self._forget(command.request)
        if isinstance(command, messages.Batch):
            self.model.batch(command, position, self.now)
        elif isinstance(command, messages.Control):
            self.model.control(command)
        elif isinstance(command, messages.Commit):
            self.model.commit(command, position, self.now)
        elif isinstance(command, messages.Tick) and command.tick == self.machine.state.tick + 1:
            self.model.tick(position, self.now)

    def _forget(self, request: str) -> None:
        """What the machine has forgotten, long after it was over, may come in force anew."""
        if request in self.machine.batches:
            return
        batch = self.model.batches.pop(request, None)
        self.model.controls.pop(request, None)
        if batch is not None:
            assert batch.state in ("done", "aborted"), f"batch {request} was forgotten while {batch.state}"
            assert batch.marking is not None
            assert self.now >= batch.marking.at + limits.REMEMBERED_US

    def caught_up(self, seq: int, row: Invocation | None) -> None:
        """Called by the machine's choke point."""
        if seq in self.store.inserted:
            return  # by this very record
        expected = self.model.rows.get(seq)
        assert row == expected, f"row {seq} after catch-up:\n  is  {row}\n  not {expected}"
        self.looked_at[seq] = copy(row) if row is not None else None

    def _expected_answer(self, command: messages.Command | None) -> tuple[int, str, bool] | None:
        """Code, id and whether a row comes of it, as the eager rows give them; None where that is not looked at."""
        if isinstance(command, messages.Invoke | messages.Import):
            known = self._known(command)
            return (200, command.id, True) if known is None else (200, known.id, False)
        if not isinstance(command, messages.Act) or command.action not in ACTIONS:
            return None
        row = next((row for row in self.model.rows.values() if row.id == command.id), None)
        if row is None:
            return 404, command.id, False
        before = Status(row.status), Action(command.action)
        if before in UNCHANGED:
            return 200, row.id, False
        if before not in TRANSITIONS:
            return 409, row.id, False
        if command.action == Action.RESTART_AS_NEW:
            if row.type == ServiceType.WORKFLOW or row.seq in self.model.imported:
                return 409, row.id, False
            new = ids.derived_id(f"{row.id}/restart", self.machine.state.position + 1, row.key)
            self.restarted += 1
            return 202, new, False
        asked = command.action == "cancel" and row.status not in (Status.SCHEDULED, Status.PENDING)
        return 202 if asked else 200, row.id, False

    def _known(self, c: messages.Invoke | messages.Import) -> Invocation | None:
        rows = sorted(self.model.rows.values(), key=lambda row: -row.seq)
        same = [row for row in rows if row.id == c.id]
        if isinstance(c, messages.Invoke):
            if c.idempotency_key is not None:
                once = c.service, c.handler, c.key, c.idempotency_key
                same += [row for row in rows if (row.service, row.handler, row.key, row.idempotency_key) == once]
            if c.type == ServiceType.WORKFLOW and not c.shared:
                run = c.service, c.key, c.type, False
                same += [row for row in rows if (row.service, row.key, row.type, row.shared) == run]
        return same[0] if same else None

    # -- after it --------------------------------------------------------------------------------------------

    def _compare(
        self,
        command: messages.Command | None,
        next_seq: int,
        pending: list[int],
        outgoing: list[Outgoing],
        changed: list[BatchState],
    ) -> None:
        machine, model = self.machine, self.model
        written = set(self.store.written)
        written.update(self.looked_at)
        for part in self.store.swept:
            written.update(seq for seq in self.stored if part.after < seq <= part.upto)
        keys = set(self.store.keys)
        for seq in sorted(written):
            keys |= self._take_over(command, seq, next_seq)
        now_pending = [entry.position for entry in machine.pending]
        if now_pending != pending or now_pending != [entry.position for entry in model.in_force]:
            self._batches_moved(command, now_pending)
            written.update(self.stored, model.rows)
        for seq in written:
            self.check_row(seq)
        if written or changed:
            for state in [*changed, *(entry.state for entry in machine.pending)]:
                self.check_tally(state)
        for key in keys:
            self.keys.check(key, self.store, machine)
        self._check_starts(outgoing)
        assert len(machine.pending) <= limits.PENDING_BATCHES_MAX
        assert not machine.todo
        assert not machine.to_settle
        assert not machine.made_ready
        assert sum(machine.state.held.values()) == self.held
        assert all(0 < held <= limits.DELIVERIES_MAX for held in machine.state.held.values())
        if machine.position % _DERIVED_EVERY == 0:
            self._check_derived()
        assert len(machine.looked_up) <= self._rows_allowed(command)

    def _check_derived(self) -> None:
        """What the machine derives from its state as it goes is what one that starts here would derive from it."""
        machine, fresh = self.machine, Machine(self.store, partition=self.number, partitions=self.partitions, log=LOG)
        assert machine.batches == fresh.batches, "a batch has changed and was not noted"
        assert (machine.served, machine.open_lanes) == (fresh.served, fresh.open_lanes)
        assert machine.newest_pending == fresh.newest_pending
        assert [entry.position for entry in machine.pending] == [entry.position for entry in fresh.pending]
        assert machine.prepared == fresh.prepared
        assert machine.owing.keys() == fresh.owing.keys()
        assert _awaited(machine) == _awaited(fresh)
        assert machine.by_position.keys() == fresh.by_position.keys()

    def _rows_allowed(self, command: messages.Command | None) -> int:
        if not isinstance(command, messages.Tick):
            return limits.ROWS_PER_RECORD_MAX + 1  # the one it creates
        quotas = (command.timers, command.work, command.single)
        return sum(max(1, quota) for quota in quotas) + limits.ROWS_PER_RECORD_MAX

    def _take_over(self, command: messages.Command | None, seq: int, next_seq: int) -> set[tuple[str, str]]:
        """Let the model follow what the record has done to a row, if that may be. The keys concerned."""
        model, machine = self.model, self.machine
        row = self.store.by_seq(seq)
        before = self.stored.get(seq)
        if row is not None and seq >= next_seq:
            assert row.caught_up_to == machine.position
            model.rows[seq] = copy(row)
            if isinstance(command, messages.Import):
                model.imported.add(seq)
            (self.used_again if row.id in self.created else self.created).add(row.id)
        elif seq in self.looked_at:
            self._follow(command, seq, self.looked_at[seq], row)
        if row is None:
            self.stored.pop(seq, None)
        else:
            self.stored[seq] = copy(row)
        return self._note_ties(seq, before, row)

    def _follow(
        self, command: messages.Command | None, seq: int, at_catch_up: Invocation | None, row: Invocation | None
    ) -> None:
        model, position = self.model, self.machine.position
        if at_catch_up is None:
            assert row is None
            return
        if row == at_catch_up:
            return
        if row is None:
            asked = isinstance(command, messages.Act) and (command.action, command.id) == ("purge", at_catch_up.id)
            expired = isinstance(command, messages.Tick) and (at_catch_up.timer_at or self.now + 1) <= self.now
            assert at_catch_up.status == _COMPLETED, f"row {seq} went without having ended"
            assert asked or expired, f"row {seq} was removed by {command}"
            del model.rows[seq]
            return
        if row.caught_up_to != position:  # then in nothing that a filter reads
            unseen = copy(at_catch_up)
            unseen.ties, unseen.children = row.ties, row.children
            assert row == unseen, f"row {seq} was changed at {position} and not stamped"
        if at_catch_up.status == _COMPLETED:
            same = {field: getattr(row, field) for field in _STAMPS}
            for field, value in same.items():
                setattr(at_catch_up, field, value)
            assert row == at_catch_up, f"row {seq} had ended and was changed"
        elif row.status == _COMPLETED:
            model.resolve(row, at_catch_up.cancel_batch, position)
            if isinstance(command, messages.EndChildren) and command.request is not None:
                self.propagated[command.request] = self.propagated.get(command.request, 0) + 1
        model.rows[seq] = copy(row)

    def _note_ties(self, seq: int, before: Invocation | None, row: Invocation | None) -> set[tuple[str, str]]:
        self.held += (row is not None and bool(row.ties & HELD)) - (before is not None and bool(before.ties & HELD))
        key = self.keys.note(seq, row, self.machine.now, imported=seq in self.model.imported)
        return set() if key is None else {key}

    def _batches_moved(self, command: messages.Command | None, pending: list[int]) -> None:
        model = self.model
        for entry in list(model.in_force):
            if entry.position not in pending:
                assert isinstance(command, messages.Tick), f"{command} took batch {entry.batch.request} out of force"
                model.scan_ended(entry)
        assert [entry.position for entry in model.in_force] == pending

    # -- what must hold --------------------------------------------------------------------------------------

    def check_row(self, seq: int) -> None:
        stored, expected = self.stored.get(seq), self.model.rows.get(seq)
        if stored == expected:
            return
        seen = self.model.as_seen(stored)
        assert seen == expected, f"row {seq} as seen:\n  is  {seen}\n  not {expected}"
        assert stored is not None
        shown = glimpse.as_seen(stored, self.machine.pending)  # what operators are shown
        assert shown == expected, f"row {seq} as shown:\n  is  {shown}\n  not {expected}"

    def check_tally(self, state: BatchState) -> None:
        if state.phase is Phase.ANNOUNCED or self.machine.batches.get(state.request) is not state:
            return
        batch = self.model.batches[state.request]
        members, tally = self.model.tally(batch)
        assert state.members == members, f"batch {state.request} has {state.members} members, not {members}"
        assert state.tally == tally, f"batch {state.request} counts\n  {state.tally}\n  not {tally}"
        assert tally.adds_up()
        self._check_phase(state, batch)

    def _check_phase(self, state: BatchState, batch: EagerBatch) -> None:
        phases = {
            "pending": (Phase.PENDING,),
            "prepared": (Phase.PREPARED,),
            "done": (Phase.SCANNED, Phase.COMPLETED),
            "aborted": (Phase.ABORTING, Phase.ABORTED),
        }
        assert state.phase in phases[batch.state], f"batch {state.request} is {state.phase}, not {batch.state}"

    def _check_starts(self, outgoing: list[Outgoing]) -> None:
        for entry in outgoing:
            if entry.destination != DELIVERIES:
                continue
            delivery = messages.decode_delivery(entry.value)
            if not isinstance(delivery, messages.Start):
                continue
            row = self.store.by_id(delivery.id)
            assert row is not None, f"{delivery.id} was started and is not there"
            at_catch_up = self.looked_at.get(row.seq, row)
            assert at_catch_up is not None, f"{delivery.id} was started after it was purged"
            assert at_catch_up.status != _COMPLETED, f"{delivery.id} was started after it had ended"
            assert row.status != _COMPLETED
            assert (row.attempt, row.ties & HELD) == (delivery.attempt, HELD)

    def _check_restarts(self) -> None:
        """As many invocations are made from others as were restarted, each once and like the old one."""
        made = []
        for entry in self.sent:
            command = messages.decode_command(entry.value) if entry.destination >= 0 else None
            if isinstance(command, messages.Invoke) and command.restarted_from is not None:
                made.append(command)
                assert (command.idempotency_key, command.parent, command.deployment) == (None, None, None)
        assert len({command.id for command in made}) == len(made)
        if not self.sent_before:  # else the counts of some batch are forgotten too
            batches = self.machine.batches.values()
            restarting = [one for one in batches if one.action == Action.RESTART_AS_NEW and not one.dry_run]
            assert len(made) == self.restarted + sum(one.tally.applied for one in restarting)

    def _check_messages(self) -> None:
        """What was sent on account of each batch, from the messages themselves."""
        sent: dict[str, dict[int, int]] = {}
        for n, entry in enumerate(self.sent):
            if entry.destination >= 0:
                command = messages.decode_command(entry.value)
                if not isinstance(command, messages.EndChildren) or command.request is None:
                    continue
                if n >= self.sent_before.get(command.request, 0):
                    to = sent.setdefault(command.request, {})
                    to[entry.destination] = to.get(entry.destination, 0) + 1
        for request, state in self.machine.batches.items():
            assert state.sent == sent.get(request, {})
            assert state.propagated == self.propagated.get(request, 0)

    def _check_killed(self, batch: EagerBatch) -> None:
        """By the rows' columns a batch has killed what it has ended itself, and nothing that went with it."""
        positions = {entry.position for entry in batch.entries}
        for row in self.model.rows.values():
            if row.outcome == Outcome.KILLED:
                assert (row.batch in positions) == batch.has_killed(row), f"{batch.request} and {row}"

    def check_all(self) -> None:
        """Everything at once, at the end of a log."""
        machine, model = self.machine, self.model
        for seq in {*self.stored, *model.rows}:
            assert self.store.by_seq(seq) == self.stored.get(seq)
            self.check_row(seq)
        for request in list(model.batches):
            if request in machine.batches:
                self.check_tally(machine.batches[request])
            self._check_killed(model.batches[request])
        for key in self.keys:
            self.keys.check(key, self.store, machine)
        self._check_messages()
        self._check_restarts()
        assert self.held == sum(bool(row.ties & HELD) for row in self.stored.values())


def _awaited(machine: Machine) -> set[int]:
    """Cancels, by position, whose grace is yet to be over; the machine drops the others from its list in passing."""
    return {at for at, state in machine.graces.items() if state.awaits_grace and state.kill is None}
