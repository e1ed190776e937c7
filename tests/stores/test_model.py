"""The SQLite store against the reference model: random calls, the same answers, the same dump.

A program is drawn from a seed: transactions of random calls that are committed or rolled back, with restarts
and lost processes between them. Values come from small pools, so that calls meet; the bounds of the caches are tiny, so
that what happens once in a million rows happens all the time. A failure names its seed and the call.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.model.effects import CANCELLED, COUNTED, KILLED, PAUSED, REMOVED
from coordinator.model.filters import Filter
from coordinator.model.invocation import Invocation, Payload, Ties
from coordinator.model.journal import Entry
from coordinator.stores import checkpoints, lookups, reader, ready, rows, tables
from coordinator.stores.memory import MemoryStore
from coordinator.stores.port import Candidates, Condition, Scan, Slice, Timer, Work, WorkKind
from coordinator.stores.reader import StoreReader
from coordinator.stores.sqlite import SqliteStore
from tests.simulation.settings import LONG, SEED
from tests.stores.example import row

PROGRAMS = 2_000 if LONG else 60
TRANSACTIONS = 30
CALLS_MAX = 25

SERVICES = ("A", "Ab", "\u00e9")
KEYS = ("", "a", "\U0001d518")
BYTES = (b"", b"x", b"\0" * 5_000)
EFFECTS = (KILLED, CANCELLED, PAUSED, COUNTED, REMOVED)
STATUSES = (None, ("ready",), ("running", "completed"), ("scheduled", "pending", "paused"))
TARGETS = ("A", "A/a", "A/a/run", "Ab/run", "\u00e9/\U0001d518")


class Program:
    """Both stores and what drives them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.generation = 0
        self.model = MemoryStore()
        self.open()
        self.next_seq = self.next_ordinal = 1

    @property
    def path(self) -> Path:
        return self.folder / f"store{self.generation}"

    def open(self) -> None:
        self.store = SqliteStore(self.path)
        self.reader = StoreReader(self.path)

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def run(self) -> None:
        for _ in range(TRANSACTIONS):
            self.both("begin")
            for _ in range(self.random.randrange(CALLS_MAX)):
                self.random.choices(CALLS, WEIGHTS)[0](self)
            end = self.random.choices(("commit", "rollback", "lost"), (8, 1, 1))[0]
            if end == "lost":
                self.model.rollback()
                self.lose_the_process()
            else:
                self.both(end)
            assert list(self.store.dump()) == list(self.model.dump())
            if self.random.random() < 0.2:
                self.read_beside()
            if self.random.random() < 0.1:
                self.close()
                self.open()
        self.close()

    def lose_the_process(self) -> None:
        """Go on with copies of the files as they are: what is not committed is gone, nothing else is."""
        before = self.path
        self.generation += 1
        for ending in ("", "-wal"):
            shutil.copy(f"{before}{ending}", f"{self.path}{ending}")
        self.close()
        self.open()

    # -- values

    def seq(self) -> int:
        return self.random.randrange(max(1, self.next_seq - 30), self.next_seq + 2)

    def maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.6 else None

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def changes(self) -> dict[str, Any]:
        n = self.random.randrange
        all_of_them = {
            "status": n(8),
            "outcome": self.maybe(n(4)),
            "modified_at": n(12),
            "timer_at": self.maybe(n(12)),
            "deployment": self.maybe(self.pick(*KEYS)),
            "last_failure": self.maybe(self.pick(*KEYS)),
            "cancel_batch": self.maybe(n(6)),
            "ties": self.pick(0, 0, *Ties),
            "caught_up_to": n(12),
            "children": n(3),
        }
        return {name: all_of_them[name] for name in self.random.sample(list(all_of_them), n(4))}

    def a_payload(self) -> Payload:
        headers = {self.pick(*KEYS): self.pick(*KEYS) for _ in range(self.random.randrange(3))}
        input, output = self.maybe(self.pick(*BYTES)), self.maybe(self.pick(*BYTES))
        lineage = (self.random.randrange(3), self.maybe(self.pick(*KEYS)), self.maybe(self.pick(*KEYS)))
        return Payload(input, headers, output, *self.pick((), (), lineage))

    def a_filter(self) -> Filter:
        rarely = self.random.random() < 0.5
        return Filter(
            service=self.pick(None, *SERVICES),
            key=self.pick(None, None, None, *KEYS),
            deployment=self.pick(None, None, None, *KEYS) if rarely else None,
            target=self.pick(None, None, None, *TARGETS) if rarely else None,
            status=self.pick(*STATUSES),
            ids=self.pick(None, None, tuple(f"inv_{self.seq()}" for _ in range(3))) if rarely else None,
            created_before=self.pick(None, self.random.randrange(12)) if rarely else None,
            modified_after=self.pick(None, self.random.randrange(12)),
        )

    def a_condition(self) -> Condition:
        statuses = frozenset(self.random.sample(range(8), self.random.randrange(1, 8)))
        below = self.pick(self.random.randrange(13), 99)
        return Condition(
            self.pick(Filter(all=True), self.a_filter()), below, self.pick(None, True, False), self.maybe(statuses)
        )

    def a_scan(self) -> Scan:
        service, key, position = self.pick(*SERVICES), self.pick(*KEYS), self.random.randrange(6)
        return self.pick(
            Scan(Candidates.ALL),
            Scan(Candidates.SERVICE, service=service),
            Scan(Candidates.KEY, service=service, key=key),
            Scan(Candidates.MEMBERS, members_of=position),
        )

    def a_slice(self) -> Slice:
        return Slice(self.a_scan(), *self.pick((self.seq(), self.seq()), (0, self.next_seq)))

    # -- calls

    def both(self, name: str, *arguments: Any) -> Any:
        """Call both; the model's answer, which is the same."""
        expected, given = (getattr(store, name)(*arguments) for store in (self.model, self.store))
        assert given == expected, (name, arguments)
        return expected

    def insert(self) -> None:
        shared, detached = self.pick(True, False), self.pick(True, False)
        fixed = {
            "service": self.pick(*SERVICES),
            "handler": "run",
            "key": self.pick(None, *KEYS),
            "type": self.random.randrange(3),
            "shared": shared,
            "detached": detached,
            "idempotency_key": self.pick(None, *KEYS),
            "created_at": self.random.randrange(12),
            "modified_at": 3,
        }
        values, payload = fixed | self.changes(), self.pick(None, self.a_payload())
        self.next_seq += self.pick(0, 0, 0, 2)
        for store in (self.model, self.store):
            store.insert(row(self.next_seq, **values), payload)
        self.next_seq += 1

    def look_up(self) -> None:
        """By any means; the row is one object and may be changed."""
        once = (self.pick(*SERVICES), "run", self.pick(None, *KEYS), self.pick(*KEYS))
        name, arguments = self.pick(
            ("by_id", (f"inv_{self.seq()}",)),
            ("by_seq", (self.seq(),)),
            ("by_idempotency_key", once),
            ("by_workflow_key", (self.pick(*SERVICES), self.pick(*KEYS))),
        )
        mine, other = (getattr(store, name)(*arguments) for store in (self.model, self.store))
        assert mine == other, (name, arguments)
        if mine is not None:
            assert self.store.by_seq(mine.seq) is other
            assert self.store.by_id(mine.id) is other
            assert (type(other.shared), type(other.detached)) == (bool, bool)
            self.change(mine, other)

    def change(self, mine: Invocation, other: Invocation) -> None:
        changes = self.changes()
        for store, one in ((self.model, mine), (self.store, other)):
            for name, value in changes.items():
                setattr(one, name, value)
            if changes:
                store.save(one)

    def remove(self) -> None:
        seq = self.seq()
        for store in (self.model, self.store):
            one = store.by_seq(seq)
            if one is not None:
                store.remove(one)

    def payload(self) -> None:
        seq = self.seq()
        self.both("payload", seq)
        if self.model.by_seq(seq) is not None:
            self.both("save_payload", seq, self.a_payload())

    def slice_end(self) -> None:
        self.both("slice_end", self.a_scan(), self.seq(), self.seq(), self.random.randrange(1, 9))

    def select(self) -> None:
        found = self.both("select", self.a_slice(), self.a_condition(), self.random.randrange(1, 9))
        for one in found[:2]:
            self.change(self.model.by_seq(one.seq), self.store.by_seq(one.seq))

    def scan(self) -> None:
        """As a tick does it: the end of the slice, those with ties, then the others."""
        scan, after, limit = self.a_scan(), self.pick(0, self.seq()), self.random.randrange(1, 20)
        end, _ = self.both("slice_end", scan, after, self.next_seq, limit)
        if end is not None:
            part, condition = Slice(scan, after, end), self.a_condition()
            self.both("select", part, condition._replace(tied=True), 5)
            self.both("sweep", part, condition._replace(tied=False), self.pick(*EFFECTS), 7, 5)

    def sweep(self) -> None:
        self.both("sweep", self.a_slice(), self.a_condition(), self.pick(*EFFECTS), 7, self.random.randrange(12))

    def members(self) -> None:
        position, seq = self.random.randrange(6), self.seq()
        name, arguments = self.pick(
            ("mark_members", (self.a_slice(), self.a_condition(), position)),
            ("add_member", (position, seq)),
            ("drop_members", (position, 3)),
        )
        self.both(name, *arguments)
        self.both("is_member", position, seq)

    def keys(self) -> None:
        service, key, n = self.pick(*SERVICES), self.pick(*KEYS), self.random.randrange
        name, *arguments = self.pick(
            ("holder",),
            ("set_holder", self.maybe(n(9))),
            ("queue_push", n(9), self.pick(*KEYS), n(9)),
            ("queue_push", n(9), self.pick(*KEYS), n(9)),
            ("queue_pop",),
            ("free_keys", 3),
        )
        self.both(name, service, key, *arguments)

    def edges(self) -> None:
        parent, child = self.pick(*KEYS), self.pick(*KEYS)
        step = self.random.randrange(-1, 5)
        self.both(*self.pick(("edge_add", parent, child, step), ("edge_remove", parent, child)))
        self.both("edges", parent, self.pick(*KEYS), 2)

    def awaiters(self) -> None:
        seq, parent, child = self.random.randrange(3), self.pick(*KEYS), self.pick(*KEYS)
        self.both(self.pick("awaiter_add", "awaiter_add", "awaiter_remove"), seq, parent, child)
        self.both("awaiters", seq, self.random.randrange(1, 5))

    def an_entry(self) -> Entry:
        n = self.random.randrange
        return Entry(
            step=n(8),
            kind=n(1, 11),
            name=self.pick(*KEYS),
            done=self.pick(True, False),
            value=self.maybe(self.pick(*BYTES)),
            number=n(3),
            due_at=self.maybe(n(9)),
            withheld=self.pick(True, False),
        )

    def journals(self) -> None:
        """Of rows that are there, and now and then of some that are not any more."""
        n = self.random.randrange
        for _ in range(n(1, 4)):
            self.both("journal_put", self.seq(), self.an_entry())
        first = self.seq()
        name, *arguments = self.pick(
            ("journal_entry", n(8)),
            ("journal_entry", n(8)),
            ("journal", n(-1, 8), n(1, 6)),
            ("journal_kept", first + n(4)),
            ("journal_drop", first + n(20), n(1, 7)),
        )
        self.both(name, first, *arguments)

    def values(self) -> None:
        place = (self.pick(*SERVICES), self.pick(*KEYS))
        name = self.pick(*KEYS)
        call, *arguments = self.pick(
            ("value_put", name, self.pick(*BYTES)),
            ("value_put", name, self.pick(*BYTES)),
            ("value_remove", name),
            ("value", name),
            ("values", name, 2),
        )
        self.both(call, *place, *arguments)

    def held(self) -> None:
        n = self.random.randrange
        seq = n(9)
        if seq in self.model.held_before(9, 9) and n(3) == 0:
            self.both("held_remove", seq)
        else:
            self.both("held_put", seq, n(9), self.pick(*KEYS))
        self.both("held_before", n(10), n(1, 9))

    def ready(self) -> None:
        for _ in range(self.pick(1, 1, 3)):
            self.next_ordinal += self.pick(1, 2)
            self.both("ready_push", self.pick(*KEYS), self.next_ordinal, self.next_ordinal + 5)
        for _ in range(self.pick(0, 0, 1, 5)):
            self.both("ready_pop", self.pick("other", *KEYS))

    def timers(self) -> None:
        n = self.random.randrange
        self.both(self.pick("timer_add", "timer_remove"), Timer(n(9), n(3), n(3)))
        if n(3) == 0:
            self.both("timers_due", n(9), n(1, 5))
            self.both("next_timer")

    def work(self) -> None:
        work = Work(self.random.randrange(5), self.pick(*WorkKind), self.pick(*KEYS), "b", "c", self.maybe(3))
        self.both(*self.pick(("work_put", work), ("work_remove", work.number), ("work_list", 3)))

    def batches(self) -> None:
        position = self.random.randrange(5)
        self.both(*self.pick(("batch_put", position, "b", self.pick(*BYTES)), ("batch_remove", position), ("batches",)))

    def outbox(self) -> None:
        destination, number = self.random.randrange(-1, 3), self.random.randrange(9)
        self.both("outbox_put", destination, number, self.pick(*BYTES))
        name, *arguments = self.pick(
            ("outbox_list", destination, number, 3), ("outbox_trim", destination, number), ("outbox_destinations",)
        )
        self.both(name, *arguments)

    def state(self) -> None:
        self.both("save_state", self.pick(*BYTES))
        self.both("load_state")

    def dump(self) -> None:
        assert list(self.store.dump()) == list(self.model.dump())

    # -- beside the owner

    def read_beside(self) -> None:
        """The reader sees what is committed, wherever it lies."""
        assert list(self.reader.dump()) == list(self.model.dump())
        for seq in range(max(0, self.next_seq - 20), self.next_seq):
            assert self.reader.invocation(f"inv_{seq}") == self.model.by_id(f"inv_{seq}")
            assert self.reader.payload(seq) == self.model.payload(seq)
            after = self.random.randrange(-1, 4)
            assert self.reader.journal(seq, after=after, limit=3) == self.model.journal(seq, after, 3)
        filter, limit = self.a_filter(), self.maybe(self.random.randrange(9))
        found = self.model.select(Slice(Scan(Candidates.ALL), 0, self.next_seq), Condition(filter, 99), 9_999)
        found.sort(key=lambda one: (-one.created_at, one.id))
        assert list(self.reader.rows(filter, after=None, limit=limit)) == found[:limit]
        if found:
            middle = self.random.randrange(len(found))
            after = found[middle].created_at, found[middle].id
            assert list(self.reader.rows(filter, after=after, limit=limit)) == found[middle + 1 :][:limit]


WEIGHTED: dict[Callable[[Program], None], int] = {
    Program.insert: 16,
    Program.look_up: 16,
    Program.remove: 2,
    Program.payload: 4,
    Program.slice_end: 3,
    Program.select: 4,
    Program.scan: 2,
    Program.sweep: 1,
    Program.members: 3,
    Program.keys: 8,
    Program.edges: 3,
    Program.awaiters: 3,
    Program.journals: 8,
    Program.values: 4,
    Program.held: 4,
    Program.ready: 6,
    Program.timers: 4,
    Program.work: 2,
    Program.batches: 2,
    Program.outbox: 3,
    Program.state: 1,
    Program.dump: 1,
}
CALLS, WEIGHTS = list(WEIGHTED), list(WEIGHTED.values())


@pytest.fixture
def tiny_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_BUCKET_SHIFT", 29)
    monkeypatch.setattr(lookups, "BUCKETS", 8)
    monkeypatch.setattr(lookups, "_PER_BUCKET", 16)
    monkeypatch.setattr(rows, "CACHED_ROWS_MAX", 12)
    monkeypatch.setattr(reader, "CHUNK", 3)
    monkeypatch.setattr(reader, "FEW", 8)
    monkeypatch.setattr(ready, "AHEAD", 3)
    monkeypatch.setattr(tables, "_HOLDERS_MAX", 3)
    monkeypatch.setattr(checkpoints, "PAGES_PER_CHECKPOINT", 8)
    monkeypatch.setattr(checkpoints, "WAL_PAGES", 30)
    monkeypatch.setattr(checkpoints, "WAL_PAGES_MAX", 60)


@pytest.mark.usefixtures("tiny_bounds")
@pytest.mark.parametrize("part", range(4))
def test_random_calls_have_the_answers_of_the_model(part: int, tmp_path: Path) -> None:
    for number in range(part, PROGRAMS, 4):
        seed = SEED * 1_000_000 + number
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            Program(seed, folder).run()
        except Exception as error:
            error.add_note(f"Program({seed}, folder).run()")
            raise
        shutil.rmtree(folder)
