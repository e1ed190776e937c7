"""What every store does. An adapter is added here by a class that opens one, and by its name in `ADAPTERS`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.model.effects import CANCELLED, COUNTED, KILLED, PAUSED, REMOVED, Effect, perform
from coordinator.model.filters import EMPTY, Filter
from coordinator.model.invocation import Invocation, Payload
from coordinator.model.journal import Entry, StepKind
from coordinator.stores.memory import MemoryStore
from coordinator.stores.port import Candidates, Condition, Scan, Slice, Store, Timer, Work, WorkKind
from coordinator.stores.sqlite import SqliteStore
from tests.stores.example import row

ADAPTERS = ("memory", "sqlite")
ALL = Scan(Candidates.ALL)
EVERY = Condition(EMPTY, caught_up_below=100)


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store with an open transaction."""
    opened: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store")
    opened.begin()
    yield opened
    opened.close()


def again(store: Store) -> None:
    """Commit and go on in a new transaction."""
    store.commit()
    store.begin()


def add(store: Store, *rows: Invocation) -> None:
    for one in rows:
        store.insert(one, None)


def found(store: Store, seq: int) -> Invocation:
    one = store.by_seq(seq)
    assert one is not None
    return one


def facts(store: Store, table: str) -> list[tuple[Any, ...]]:
    return [values for name, values in store.dump() if name == table]


# -- transactions


def test_what_is_committed_stays(store: Store) -> None:
    add(store, row(1))
    store.save_state(b"one")
    store.commit()
    store.begin()
    store.rollback()
    assert store.load_state() == b"one"
    assert store.by_id("inv_1") == row(1)


def test_a_new_store_has_no_state_and_no_facts(store: Store) -> None:
    assert store.load_state() is None
    assert list(store.dump()) == []
    assert store.next_timer() is None
    assert store.ready_pop("Greeter") is None
    assert store.outbox_destinations() == []


def test_rollback_takes_everything_back(store: Store) -> None:
    fill(store)
    before = list(store.dump())
    again(store)
    one = found(store, 1)
    one.status = 3
    store.save(one)
    store.remove(found(store, 2))
    add(store, row(9, idempotency_key="later"))
    store.save_payload(1, Payload(b"other"))
    store.save_state(b"other")
    store.sweep(Slice(ALL, 2, 9), EVERY, KILLED, 7, 50)
    store.mark_members(Slice(ALL, 0, 1), EVERY, 60)
    store.add_member(50, 3)
    store.drop_members(40, 9)
    store.set_holder("Cart", "a", None)
    store.set_holder("Cart", "b", 9)
    store.queue_pop("Cart", "a")
    store.queue_push("Cart", "z", 1, "", 9)
    store.edge_add("inv_1", "inv_9", 1)
    store.edge_remove("inv_1", "inv_2")
    store.awaiter_add(1, "inv_9", "inv_1")
    store.awaiter_remove(1, "inv_3", "inv_1")
    store.journal_put(1, Entry(step=0, kind=StepKind.RUN, value=b"other"))
    store.journal_put(1, Entry(step=1, kind=StepKind.SLEEP))
    store.journal_put(2, Entry(step=0, kind=StepKind.RUN))
    store.journal_drop(2, 2, 9)
    store.value_put("Cart", "a", "total", b"other")
    store.value_put("Cart", "a", "new", b"")
    store.value_remove("Cart", "a", "items")
    store.held_put(3, 46, "other")
    store.held_put(2, 47, "other")
    store.held_remove(1)
    store.ready_pop("Greeter")
    store.ready_push("Greeter", 99, 9)
    store.timer_remove(Timer(5, 1, 1))
    store.timer_add(Timer(6, 1, 1))
    store.work_remove(1)
    store.work_put(Work(2, WorkKind.HAND_ON))
    store.batch_remove(40)
    store.batch_put(41, "other", b"")
    store.outbox_trim(0, 9)
    store.outbox_put(7, 1, b"other")
    assert list(store.dump()) != before
    store.rollback()
    assert list(store.dump()) == before
    store.begin()
    store.commit()
    assert list(store.dump()) == before
    assert store.by_id("inv_9") is None
    assert store.by_idempotency_key("Greeter", "greet", None, "later") is None
    assert store.by_id("inv_2") == row(2)
    assert store.outbox_list(0, 0, 9) == [(1, b"hello")]
    assert store.outbox_destinations() == [0]
    assert store.journal(1, -1, 9) == [Entry(step=0, kind=StepKind.CALL, name="Cart/a/add", done=False)]
    assert store.held_before(99, 9) == [1, 3]
    store.begin()
    assert [store.ready_pop("Greeter") for _ in range(2)] == [3, None]


def fill(store: Store) -> None:
    """Something in every table."""
    add(store, row(1), row(2), row(3))
    store.save_payload(1, Payload(b"in", {"b": "2", "a": "1"}, b"out", 3, "inv_0", None, False))
    store.save_state(b"state")
    store.add_member(40, 1)
    store.set_holder("Cart", "a", 1)
    store.queue_push("Cart", "a", 3, "x", 2)
    store.edge_add("inv_1", "inv_2", 7)
    store.awaiter_add(1, "inv_3", "inv_1")
    store.journal_put(1, Entry(step=0, kind=StepKind.CALL, name="Cart/a/add", done=False))
    store.value_put("Cart", "a", "total", b"5")
    store.value_put("Cart", "a", "items", b"[]")
    store.held_put(3, 45, "Greeter")
    store.held_put(1, 44, "Greeter")
    store.ready_push("Greeter", 1, 3)
    store.timer_add(Timer(5, 1, 1))
    store.work_put(Work(1, WorkKind.TELL_CHILDREN, "inv_1", "kill", "", 40, True))
    store.batch_put(40, "request", b"batch")
    store.outbox_put(0, 1, b"hello")


def test_the_dump_shows_every_fact_in_one_order(store: Store) -> None:
    fill(store)
    assert [(table, values) for table, values in store.dump() if table != "invocation"] == [
        ("state", (b"state",)),
        ("payload", (1, b"in", (("a", "1"), ("b", "2")), b"out", 3, "inv_0", None, False)),
        ("member", (40, 1)),
        ("holder", ("Cart", "a", 1)),
        ("queue", ("Cart", "a", 3, "x", 2)),
        ("edge", ("inv_1", "inv_2", 7)),
        ("awaiter", (1, "inv_3", "inv_1")),
        ("journal", (1, 0, 1, "Cart/a/add", False, None, None, None, 0, None, None, False, False)),
        ("value", ("Cart", "a", "items", b"[]")),
        ("value", ("Cart", "a", "total", b"5")),
        ("held", (1, 44, "Greeter")),
        ("held", (3, 45, "Greeter")),
        ("ready", ("Greeter", 1, 3)),
        ("timer", (5, 1, 1)),
        ("work", (1, 2, "inv_1", "kill", "", 40, True)),
        ("batch", (40, "request", b"batch")),
    ]
    assert [values[0] for values in facts(store, "invocation")] == [1, 2, 3]


# -- invocations


def test_a_row_is_one_object_within_a_transaction(store: Store) -> None:
    add(store, row(1, idempotency_key="once"))
    again(store)
    one = found(store, 1)
    assert store.by_id("inv_1") is one
    assert store.by_idempotency_key("Greeter", "greet", None, "once") is one
    assert store.select(Slice(ALL, 0, 1), EVERY, 9) == [one]
    assert store.select(Slice(ALL, 0, 1), EVERY, 9)[0] is one


def test_a_change_is_seen_at_once_and_after_the_commit(store: Store) -> None:
    add(store, row(1))
    again(store)
    one = found(store, 1)
    one.status, one.deployment, one.last_failure = 4, None, "broken"
    store.save(one)
    assert store.select(Slice(ALL, 0, 1), EVERY._replace(statuses=frozenset((4,))), 9) == [one]
    again(store)
    assert store.by_id("inv_1") == row(1, status=4, deployment=None, last_failure="broken")


def test_a_row_comes_back_with_every_type_it_had(store: Store) -> None:
    original = row(
        1, key="", type=2, shared=True, detached=True, parent="inv_0", outcome=0, last_failure="ä\0\U0001d518"
    )
    add(store, original)
    again(store)
    again(store)
    one = found(store, 1)
    assert one == original
    assert one.shared is True
    assert one.detached is True


def test_no_row_is_found_where_there_is_none(store: Store) -> None:
    add(store, row(1))
    assert store.by_id("inv_2") is None
    assert store.by_seq(2) is None
    assert store.by_idempotency_key("Greeter", "greet", None, "once") is None
    assert store.by_workflow_key("Greeter", "") is None


def test_a_removed_row_is_gone_with_its_payload(store: Store) -> None:
    store.insert(row(1, idempotency_key="once"), Payload(b"in"))
    store.insert(row(2), Payload(b"in"))
    again(store)
    store.remove(found(store, 1))
    for _ in range(2):
        assert store.by_id("inv_1") is None
        assert store.by_seq(1) is None
        assert store.by_idempotency_key("Greeter", "greet", None, "once") is None
        assert store.payload(1) == Payload()
        assert store.slice_end(ALL, 0, 9, 9) == (2, 1)
        again(store)


def test_an_id_can_be_used_again_by_a_later_row(store: Store) -> None:
    add(store, row(1, id="inv_same"))
    again(store)
    store.remove(found(store, 1))
    add(store, row(2, id="inv_same"))
    for _ in range(2):
        one = store.by_id("inv_same")
        assert one is not None
        assert one.seq == 2
        again(store)


def test_the_newest_row_with_an_idempotency_key_is_found_for_each_target(store: Store) -> None:
    targets = [("Greeter", "greet", None), ("Greeter", "greet", ""), ("Greeter", "g", "reet"), ("Gree", "ter", None)]
    for seq, (service, handler, key) in enumerate(targets * 2, 1):
        add(store, row(seq, service=service, handler=handler, key=key, idempotency_key="k"))
    for _ in range(2):
        seqs = [store.by_idempotency_key(*target, "k") for target in targets]
        assert [one and one.seq for one in seqs] == [5, 6, 7, 8]
        again(store)
    store.remove(found(store, 5))
    older = store.by_idempotency_key("Greeter", "greet", None, "k")
    assert older is not None
    assert older.seq == 1


def test_the_newest_run_of_a_workflow_is_found_by_its_key(store: Store) -> None:
    add(
        store,
        row(1, type=2, key="k"),
        row(2, type=2, key="k"),
        row(3, type=2, key="k", shared=True),
        row(4, type=1, key="k"),
        row(5, type=2, key="other"),
        row(6, type=2, key="k", service="Other"),
    )
    for _ in range(2):
        run = store.by_workflow_key("Greeter", "k")
        assert run is not None
        assert run.seq == 2
        again(store)


def test_a_payload_is_kept_beside_its_row(store: Store) -> None:
    payload = Payload(b"in", {"h": "ä"}, None)
    store.insert(row(1), payload)
    store.insert(row(2), Payload())
    store.insert(row(3), None)
    assert store.payload(1) == payload
    again(store)
    assert [store.payload(seq) for seq in (1, 2, 3)] == [payload, Payload(), Payload()]
    assert [values[0] for values in facts(store, "payload")] == [1]
    store.save_payload(1, Payload())
    store.save_payload(3, Payload(None, {}, b""))
    again(store)
    assert facts(store, "payload") == [(3, None, (), b"", 0, None, None, False)]


@pytest.mark.parametrize(
    "payload",
    [
        Payload(depth=2),
        Payload(imported=True),
        Payload(b"", restarted_from="inv_0"),
        Payload(None, {"a": "b"}, restarted_as="inv_9"),
    ],
)
def test_where_an_invocation_comes_from_is_kept_beside_it(store: Store, payload: Payload) -> None:
    store.insert(row(1), payload)
    assert store.payload(1) == payload
    again(store)
    assert store.payload(1) == payload
    store.save_payload(1, Payload(b"in"))
    again(store)
    assert store.payload(1) == Payload(b"in")


def test_a_payload_that_was_read_is_a_copy(store: Store) -> None:
    mine = Payload(b"in", {"a": "1"})
    store.insert(row(1), mine)
    mine.headers["b"] = "2"
    read = store.payload(1)
    read.headers["c"] = "3"
    read.output = b"out"
    again(store)
    assert store.payload(1) == Payload(b"in", {"a": "1"})


# -- scans

SCANNED = [
    row(1),
    row(2, service="Cart", type=1, key="a", ties=2, status=3),
    row(3, service="Cart", type=1, key="b"),
    row(5, service="Cart", type=1, key="a", caught_up_to=70),
    row(6, status=7, outcome=0, modified_at=60),
    row(8, service="Cart", handler="drop", type=1, key="a"),
]


@pytest.fixture
def scanned(store: Store) -> Store:
    add(store, *SCANNED)
    store.add_member(40, 3)
    store.add_member(40, 5)
    store.add_member(41, 6)
    again(store)
    return store


SCANS = [
    (ALL, [1, 2, 3, 5, 6, 8]),
    (Scan(Candidates.SERVICE, service="Cart"), [2, 3, 5, 8]),
    (Scan(Candidates.SERVICE, service="Cart1"), []),
    (Scan(Candidates.KEY, service="Cart", key="a"), [2, 5, 8]),
    (Scan(Candidates.KEY, service="Cart", key=""), []),
    (Scan(Candidates.MEMBERS, members_of=40), [3, 5]),
    (Scan(Candidates.MEMBERS, members_of=42), []),
]


@pytest.mark.parametrize(("scan", "seqs"), SCANS)
def test_a_slice_ends_at_the_last_candidate_within_its_bounds(scanned: Store, scan: Scan, seqs: list[int]) -> None:
    for after in range(10):
        for below in range(10):
            for limit in (1, 2, 9):
                within = [seq for seq in seqs if after < seq < below][:limit]
                expected = (within[-1] if within else None, len(within))
                assert scanned.slice_end(scan, after, below, limit) == expected


@pytest.mark.parametrize(("scan", "seqs"), SCANS)
def test_a_selection_has_the_first_candidates_of_the_slice(scanned: Store, scan: Scan, seqs: list[int]) -> None:
    for after in range(10):
        for upto in range(10):
            for limit in (1, 9):
                expected = [seq for seq in seqs if after < seq <= upto][:limit]
                assert [one.seq for one in scanned.select(Slice(scan, after, upto), EVERY, limit)] == expected


CONDITIONS = [
    (Condition(Filter(handler="greet"), 100), [1, 2, 3, 5, 6]),
    (Condition(Filter(status=("running", "completed")), 100), [2, 6]),
    (Condition(EMPTY, 70), [1, 2, 3, 6, 8]),
    (Condition(EMPTY, 71), [1, 2, 3, 5, 6, 8]),
    (Condition(EMPTY, 100, tied=True), [2]),
    (Condition(EMPTY, 100, tied=False), [1, 3, 5, 6, 8]),
    (Condition(EMPTY, 100, statuses=frozenset((7, 3))), [2, 6]),
    (Condition(EMPTY, 100, statuses=frozenset()), []),
    (Condition(Filter(target="Cart/a", created_before=5), 100, False, frozenset((2, 3))), []),
    (Condition(Filter(target="Cart/a", created_before=6), 100, False, frozenset((2, 3))), [5]),
    (Condition(Filter(ids=("inv_8", "inv_1", "inv_4")), 100), [1, 8]),
    (Condition(Filter(modified_after=60), 100), [6]),
]


@pytest.mark.parametrize(("condition", "seqs"), CONDITIONS)
def test_a_selection_has_the_rows_that_meet_the_condition(
    scanned: Store, condition: Condition, seqs: list[int]
) -> None:
    assert [one.seq for one in scanned.select(Slice(ALL, 0, 9), condition, 9)] == seqs


@pytest.mark.parametrize(("condition", "seqs"), CONDITIONS)
@pytest.mark.parametrize("effect", [KILLED, CANCELLED, PAUSED, COUNTED])
def test_a_sweep_has_its_effect_on_the_rows_that_meet_the_condition(
    scanned: Store, condition: Condition, seqs: list[int], effect: Effect
) -> None:
    assert scanned.sweep(Slice(ALL, 0, 9), condition, effect, 77, 50) == len(seqs)
    for _ in range(2):
        for original in SCANNED:
            expected = row(**{name: getattr(original, name) for name in original.__struct_fields__})
            if original.seq in seqs:
                perform(effect, expected, 77, 50)
            assert scanned.by_seq(original.seq) == expected
        again(scanned)


@pytest.mark.parametrize(("scan", "seqs"), SCANS)
@pytest.mark.parametrize("cut", [1, 3, 9])
def test_a_sweep_keeps_to_its_slice(scanned: Store, scan: Scan, seqs: list[int], cut: int) -> None:
    end, count = scanned.slice_end(scan, 0, 99, cut)
    if end is None:
        return
    assert scanned.sweep(Slice(scan, 0, end), EVERY, COUNTED, 77, 80) == count
    stamped = [one.seq for one in scanned.select(Slice(ALL, 0, 9), EVERY, 9) if one.caught_up_to == 80]
    assert stamped == seqs[:cut]


def test_a_sweep_that_removes_takes_payloads_and_what_leads_to_them(store: Store) -> None:
    for seq in range(1, 7):
        store.insert(row(seq, idempotency_key=f"k{seq}", status=7 if seq % 2 else 2), Payload(b"in"))
    again(store)
    store.remove(found(store, 1))
    condition = EVERY._replace(statuses=frozenset((7,)))
    assert store.sweep(Slice(ALL, 0, 9), condition, REMOVED, 77, 50) == 2
    for _ in range(2):
        assert [store.by_seq(seq) is not None for seq in range(1, 7)] == [False, True, False, True, False, True]
        assert [store.by_id(f"inv_{seq}") is not None for seq in (1, 2, 3)] == [False, True, False]
        assert store.by_idempotency_key("Greeter", "greet", None, "k3") is None
        assert [values[0] for values in facts(store, "payload")] == [2, 4, 6]
        again(store)


def test_a_sweep_takes_rows_of_the_same_transaction_as_they_are_now(store: Store) -> None:
    add(store, row(1), row(2))
    again(store)
    one = found(store, 1)
    one.status = 3
    store.save(one)
    add(store, row(3, status=3))
    condition = EVERY._replace(statuses=frozenset((3,)))
    assert store.slice_end(ALL, 0, 9, 9) == (3, 3)
    assert store.sweep(Slice(ALL, 0, 3), condition, KILLED, 77, 50) == 2
    assert [found(store, seq).status for seq in (1, 2, 3)] == [7, 2, 7]


def test_a_row_can_be_changed_after_a_sweep_went_over_it(store: Store) -> None:
    add(store, row(1))
    again(store)
    store.sweep(Slice(ALL, 0, 1), EVERY, PAUSED, 77, 50)
    one = found(store, 1)
    one.deployment = "dp_2"
    store.save(one)
    again(store)
    expected = row(1, deployment="dp_2")
    perform(PAUSED, expected, 77, 50)
    assert found(store, 1) == expected


# -- members


def test_members_are_marked_and_stamped(scanned: Store) -> None:
    condition = Condition(EMPTY, 70, statuses=frozenset((2, 3)))
    assert scanned.mark_members(Slice(ALL, 0, 6), condition, 70) == 3
    again(scanned)
    assert [scanned.is_member(70, seq) for seq in (1, 2, 3, 5, 6, 8)] == [True, True, True, False, False, False]
    assert [found(scanned, seq).caught_up_to for seq in (1, 2, 3, 5, 6)] == [70, 70, 70, 70, 0]
    assert scanned.mark_members(Slice(ALL, 0, 6), condition, 70) == 0
    assert not scanned.is_member(71, 1)


def test_members_can_be_marked_among_members(scanned: Store) -> None:
    part = Slice(Scan(Candidates.MEMBERS, members_of=40), 0, 9)
    assert scanned.mark_members(part, Condition(EMPTY, 70), 70) == 1
    assert [values for values in facts(scanned, "member") if values[0] == 70] == [(70, 3)]


def test_members_are_forgotten_a_few_at_a_time(scanned: Store) -> None:
    scanned.add_member(40, 3)
    assert [scanned.drop_members(40, 1) for _ in range(3)] == [1, 1, 0]
    assert not scanned.is_member(40, 3)
    assert scanned.is_member(41, 6)


def test_members_that_were_removed_count_as_candidates_and_match_nothing(scanned: Store) -> None:
    scanned.remove(found(scanned, 3))
    scan = Scan(Candidates.MEMBERS, members_of=40)
    assert scanned.slice_end(scan, 0, 9, 9) == (5, 2)
    assert scanned.sweep(Slice(scan, 0, 5), EVERY, COUNTED, 1, 80) == 1


# -- keys


def test_a_key_has_a_holder_or_is_free(store: Store) -> None:
    assert store.holder("Cart", "a") is None
    store.set_holder("Cart", "a", 0)
    store.set_holder("Cart", "b", 5)
    for _ in range(2):
        assert [store.holder("Cart", key) for key in ("a", "b", "c")] == [0, 5, None]
        again(store)
    store.set_holder("Cart", "a", None)
    store.set_holder("Cart", "b", None)
    store.set_holder("Cart", "b", 6)
    again(store)
    assert facts(store, "holder") == [("Cart", "b", 6)]


def test_a_queue_is_served_by_time_then_tiebreak_then_creation(store: Store) -> None:
    waiters = [(5, "b", 1), (5, "a", 2), (3, "z", 3), (5, "a", 4), (-1, "\U0001d518", 5), (-1, "\uffff", 6)]
    for at, tiebreak, seq in waiters:
        store.queue_push("Cart", "a", at, tiebreak, seq)
        store.queue_push("Cart", "a", at, tiebreak, seq)
        store.queue_push("Cart", "ab", at, tiebreak, seq + 10)
    assert [store.queue_pop("Cart", "a") for _ in range(3)] == [6, 5, 3]
    again(store)
    assert [store.queue_pop("Cart", "a") for _ in range(4)] == [2, 4, 1, None]
    assert store.queue_pop("Cart", "ab") == 16


def test_free_keys_have_waiters_and_no_holder(store: Store) -> None:
    for service, key in [("B", "x"), ("A", "x"), ("A", ""), ("A", "y"), ("A", "held"), ("A", "handed on")]:
        store.queue_push(service, key, 1, "", 1)
        store.queue_push(service, key, 2, "", 2)
    store.set_holder("A", "held", 7)
    store.set_holder("A", "handed on", 0)
    store.set_holder("A", "no waiters", 7)
    for _ in range(2):
        assert store.free_keys("", "", 9) == ([("A", ""), ("A", "x"), ("A", "y"), ("B", "x")], None)
        assert store.free_keys("", "", 2) == ([("A", "")], ("A", "handed on"))
        assert store.free_keys("A", "held", 2) == ([("A", "x"), ("A", "y")], ("A", "y"))
        assert store.free_keys("B", "x", 9) == ([], None)
        again(store)


# -- call trees


def test_edges_are_remembered_once_and_told_in_order(store: Store) -> None:
    assert [store.edge_add("p", child, 3) for child in ("c", "a", "c", "b")] == [True, True, False, True]
    store.edge_add("o", "a", 0)
    store.edge_add("pa", "a", 0)
    assert store.edges("p", "", 2) == ["a", "b"]
    assert store.edges("p", "b", 2) == ["c"]
    assert [store.edge_remove("p", "b") for _ in range(2)] == [3, None]
    again(store)
    assert store.edges("p", "", 9) == ["a", "c"]
    assert store.edges("x", "", 9) == []


def test_an_edge_keeps_the_step_that_it_was_first_added_with(store: Store) -> None:
    for child, step in [("a", -1), ("b", 0), ("a", 5), ("b", 6)]:
        store.edge_add("p", child, step)
    again(store)
    assert [store.edge_remove("p", child) for child in ("a", "b")] == [-1, 0]


def test_awaiters_are_told_by_parent_then_child(store: Store) -> None:
    for parent, child in [("q", "a"), ("p", "z"), ("p", "a"), ("q", "a")]:
        store.awaiter_add(5, parent, child)
    store.awaiter_add(4, "p", "b")
    store.awaiter_add(6, "a", "a")
    assert store.awaiters(5, 2) == [("p", "a"), ("p", "z")]
    again(store)
    store.awaiter_remove(5, "p", "z")
    store.awaiter_remove(5, "z", "p")
    assert store.awaiters(5, 9) == [("p", "a"), ("q", "a")]
    assert store.awaiters(7, 9) == []


# -- journals

FULL = Entry(
    step=4,
    kind=StepKind.CALL,
    name="Cart/\U0001d518/add",
    done=True,
    value=b"\0" * 10_000,
    failure="broken",
    outcome="failure",
    number=7,
    due_at=99,
    child="inv_8",
    withheld=True,
    awaited=3,
)


def steps(store: Store, seq: int) -> list[int]:
    return [entry.step for entry in store.journal(seq, -1, 99)]


def keep(store: Store, seq: int, *steps: int) -> None:
    for step in steps:
        store.journal_put(seq, Entry(step=step, kind=StepKind.RUN))


def test_a_journal_is_read_by_step(store: Store) -> None:
    keep(store, 2, 10, 0, 2)
    keep(store, 3, 1)
    again(store)
    keep(store, 2, 9, 1)
    for _ in range(2):
        assert steps(store, 2) == [0, 1, 2, 9, 10]
        assert [entry.step for entry in store.journal(2, 1, 2)] == [2, 9]
        assert store.journal(2, 10, 9) == store.journal(4, -1, 9) == []
        again(store)


def test_an_entry_comes_back_as_it_was_and_is_replaced_as_a_whole(store: Store) -> None:
    store.journal_put(1, FULL)
    for _ in range(2):
        assert store.journal_entry(1, 4) == FULL
        assert store.journal(1, 3, 1) == [FULL]
        assert store.journal_entry(1, 3) is store.journal_entry(4, 1) is None
        again(store)
    bare = Entry(step=4, kind=StepKind.RUN)
    store.journal_put(1, bare)
    for _ in range(2):
        assert store.journal_entry(1, 4) == bare
        assert store.journal(1, -1, 9) == [bare]
        again(store)


def test_an_entry_that_was_put_or_read_is_a_copy(store: Store) -> None:
    mine = Entry(step=0, kind=StepKind.CALL, done=False)
    store.journal_put(1, mine)
    mine.done = True
    for _ in range(2):
        for read in (store.journal_entry(1, 0), *store.journal(1, -1, 9)):
            assert read is not None
            assert not read.done
            read.done = True
        again(store)


def test_whether_a_journal_is_kept_is_known_for_a_stretch(store: Store) -> None:
    for seq in (3, 6):
        keep(store, seq, 0, 1)
    for _ in range(2):
        kept = [(first, last) for first in range(1, 9) for last in range(first, 9) if store.journal_kept(first, last)]
        assert kept == [(f, z) for f in range(1, 9) for z in range(f, 9) if f <= 3 <= z or f <= 6 <= z]
        again(store)


def test_a_journal_outlives_its_row_until_it_is_dropped(store: Store) -> None:
    add(store, *(row(seq) for seq in range(1, 7)))
    for seq in range(1, 7):
        keep(store, seq, 0, 1, 2)
    store.remove(found(store, 2))
    again(store)
    store.remove(found(store, 4))
    store.sweep(Slice(ALL, 4, 5), EVERY, REMOVED, 7, 50)
    assert steps(store, 2) == steps(store, 4) == steps(store, 5) == [0, 1, 2]
    assert store.journal_drop(1, 4, 6) == (6, 4)
    assert [steps(store, seq) for seq in range(1, 7)] == [[0, 1, 2], [], [0, 1, 2], [1, 2], [0, 1, 2], [0, 1, 2]]
    again(store)
    assert store.journal_drop(4, 9, 2) == (2, 4)
    assert store.journal_drop(4, 9, 4) == (4, 7)
    assert store.journal_drop(7, 9, 4) == (0, None)
    assert [steps(store, seq) for seq in range(1, 7)] == [[0, 1, 2], [], [0, 1, 2], [], [], [0, 1, 2]]


def test_going_over_journals_stops_at_rows_that_are_still_there_too(store: Store) -> None:
    add(store, row(1), row(2), row(3))
    for seq in (1, 2, 3):
        keep(store, seq, *range(9))
    assert store.journal_drop(1, 9, 2) == (2, 3)
    assert store.journal_drop(3, 9, 2) == (1, None)
    assert store.journal_drop(1, 2, 2) == (2, 3)
    assert [len(steps(store, seq)) for seq in (1, 2, 3)] == [9, 9, 9]


def test_a_journal_can_be_dropped_in_the_transaction_that_made_it(store: Store) -> None:
    add(store, row(1), row(2))
    keep(store, 1, 0, 1)
    keep(store, 2, 0)
    store.remove(found(store, 1))
    assert store.journal_drop(1, 2, 9) == (3, None)
    again(store)
    assert [steps(store, seq) for seq in (1, 2)] == [[], [0]]


# -- state of keyed services


def test_state_is_kept_for_each_key_by_name(store: Store) -> None:
    assert [store.value_put("Cart", "a", name, b"1") for name in ("y", "x", "y")] == [True, True, False]
    store.value_put("Cart", "a", "y", b"2")
    store.value_put("Cart", "ab", "x", b"3")
    store.value_put("Car", "ta", "x", b"4")
    for _ in range(2):
        assert store.value("Cart", "a", "y") == b"2"
        assert store.value("Cart", "a", "z") is None
        assert store.values("Cart", "a", "", 9) == [("x", b"1"), ("y", b"2")]
        assert store.values("Cart", "a", "", 1) == [("x", b"1")]
        assert store.values("Cart", "a", "x", 9) == [("y", b"2")]
        assert store.values("Cart", "b", "", 9) == []
        again(store)
    assert [store.value_remove("Cart", "a", "x") for _ in range(2)] == [True, False]
    again(store)
    assert facts(store, "value") == [("Car", "ta", "x", b"4"), ("Cart", "a", "y", b"2"), ("Cart", "ab", "x", b"3")]


# -- deliveries


def test_deliveries_are_held_by_the_position_at_which_they_went_out(store: Store) -> None:
    for seq, position in [(5, 10), (3, 20), (4, 30), (9, 15), (3, 12)]:
        store.held_put(seq, position, f"lane{position}")
    for _ in range(2):
        assert store.held_before(15, 9) == [3, 5]
        assert store.held_before(16, 9) == [3, 5, 9]
        assert store.held_before(99, 2) == [3, 4]
        again(store)
    store.held_put(5, 40, "other")
    assert store.held_remove(9) == "lane15"
    store.held_put(7, 41, "brief")
    assert store.held_remove(7) == "brief"
    for _ in range(2):
        assert store.held_before(99, 9) == [3, 4, 5]
        again(store)
    assert facts(store, "held") == [(3, 12, "lane12"), (4, 30, "lane30"), (5, 40, "other")]


def test_those_ready_come_by_ordinal_within_their_lane(store: Store) -> None:
    for ordinal, lane in enumerate("abcabcab"):
        store.ready_push(lane, ordinal, ordinal * 10)
    assert store.ready_pop("a") == 0
    again(store)
    store.ready_push("c", 8, 80)
    assert store.ready_pop("aa") is None
    assert store.ready_pop("b") == 10
    assert popped(store, "c") == [20, 50, 80]
    again(store)
    store.ready_push("c", 10, 100)
    assert [popped(store, lane) for lane in "cabd"] == [[100], [30, 60], [40, 70], []]
    again(store)
    assert facts(store, "ready") == []


def test_a_lane_goes_on_after_it_was_empty(store: Store) -> None:
    for ordinal in (1, 3):
        store.ready_push("a", ordinal, ordinal)
        assert [store.ready_pop("a") for _ in range(2)] == [ordinal, None]
        again(store)
        store.ready_push("a", ordinal + 1, ordinal + 1)
        again(store)
        assert [store.ready_pop("a") for _ in range(2)] == [ordinal + 1, None]


def test_a_long_lane_keeps_its_order_over_many_transactions(store: Store) -> None:
    taken: list[int] = []
    last = 0
    for pushed, taking in [(1_000, 10), (0, 300), (400, 0), (3, 500), (0, 10), (700, 1_300), (5, 0)]:
        for _ in range(pushed):
            last += 1
            store.ready_push("a", last, last)
        taken += [one for _ in range(taking) if (one := store.ready_pop("a")) is not None]
        again(store)
    assert taken + popped(store, "a") == list(range(1, last + 1))


def popped(store: Store, lane: str) -> list[int]:
    """All that can be taken out, in order."""
    taken = []
    while (one := store.ready_pop(lane)) is not None:
        taken.append(one)
    return taken


# -- timers


def test_timers_are_due_in_order(store: Store) -> None:
    timers = [Timer(7, 1, 1), Timer(5, 2, 9), Timer(5, 2, 3), Timer(5, 1, 1), Timer(9, 0, 0)]
    for timer in timers * 2:
        store.timer_add(timer)
    assert store.next_timer() == 5
    assert store.timers_due(7, 9) == sorted(timers)[:4]
    assert store.timers_due(7, 1) == [Timer(5, 1, 1)]
    assert store.timers_due(4, 9) == []
    again(store)
    for timer in timers[1:4]:
        store.timer_remove(timer)
    store.timer_remove(Timer(1, 1, 1))
    assert store.next_timer() == 7
    again(store)
    store.timer_add(Timer(1, 1, 1))
    store.timer_remove(Timer(1, 1, 1))
    assert store.timers_due(99, 9) == [Timer(7, 1, 1), Timer(9, 0, 0)]


# -- work items and batches


def test_work_is_listed_by_number_and_replaced(store: Store) -> None:
    works = [Work(3, WorkKind.HAND_ON, "Cart", "a"), Work(1, WorkKind.TELL_CHILDREN, "inv_1", "kill", "inv_7", 4, True)]
    for work in works:
        store.work_put(work)
    works[0].cursor = "changed without being put"
    assert store.work_list(9) == [works[1], Work(3, WorkKind.HAND_ON, "Cart", "a")]
    store.work_put(Work(3, WorkKind.DROP_MEMBERS))
    again(store)
    assert store.work_list(1) == [works[1]]
    store.work_remove(1)
    store.work_remove(2)
    assert store.work_list(9) == [Work(3, WorkKind.DROP_MEMBERS)]


def test_batches_are_listed_by_position_and_replaced(store: Store) -> None:
    store.batch_put(9, "b", b"1")
    store.batch_put(4, "a", b"2")
    store.batch_put(9, "c", b"3")
    again(store)
    assert store.batches() == [(4, "a", b"2"), (9, "c", b"3")]
    store.batch_remove(4)
    store.batch_remove(5)
    assert store.batches() == [(9, "c", b"3")]


# -- outbox


def test_the_outbox_is_numbered_for_each_destination(store: Store) -> None:
    for destination, number in [(1, 1), (1, 2), (-1, 1), (1, 3), (300, 7)]:
        store.outbox_put(destination, number, f"{destination}/{number}".encode())
    for _ in range(2):
        assert store.outbox_destinations() == [-1, 1, 300]
        assert store.outbox_list(1, 1, 9) == [(2, b"1/2"), (3, b"1/3")]
        assert store.outbox_list(1, 0, 1) == [(1, b"1/1")]
        assert store.outbox_list(2, 0, 9) == []
        again(store)
    store.outbox_trim(1, 2)
    store.outbox_trim(300, 9)
    assert store.outbox_list(1, 0, 9) == [(3, b"1/3")]
    assert store.outbox_destinations() == [-1, 1]


def test_what_is_published_is_no_difference_between_stores(store: Store) -> None:
    store.outbox_put(1, 1, b"entry")
    assert list(store.dump()) == []
