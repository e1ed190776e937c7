"""What was in scope, worked out by hand: from records as they stand on a log."""

from coordinator.demo.ledger import Ledger
from coordinator.logs.port import Record
from coordinator.model import messages
from coordinator.model.journal import Step, StepKind
from coordinator.model.messages import (
    Act,
    ChildEnded,
    Completed,
    Import,
    Invoke,
    Paused,
    Released,
    Serve,
    Started,
    Steps,
    Suspended,
    Tick,
)

BOTH = ("scheduled", "suspended")


class Book:
    """A ledger that is fed records one after another."""

    def __init__(self) -> None:
        self.ledger = Ledger("Greeter")
        self._position = 0

    def add(self, command: messages.Command, at: int) -> None:
        self.ledger.apply(Record(self._position, at, messages.encode(command)))
        self._position += 1

    def imported(self, id: str, status: str, *, created_at: int = 0, due_at: int | None = None) -> None:
        times = {"created_at": created_at, "modified_at": 0, "due_at": due_at}
        self.add(Import(id=id, service="Greeter", handler="greet", status=status, **times), at=1_000)

    def invoked(self, id: str, at: int, *, due_at: int | None = None, service: str = "Greeter") -> None:
        self.add(Invoke(id=id, service=service, handler="greet", due_at=due_at), at)

    def matching(self, created_before: int = 10_000) -> dict[str, str]:
        return self.ledger.matching(BOTH, created_before)


def test_rows_are_what_they_were_imported_as() -> None:
    book = Book()
    for status in ("scheduled", "suspended", "completed", "backing-off"):
        book.imported(status, status, due_at=50_000)
    assert book.matching() == {"scheduled": "scheduled", "suspended": "suspended"}


def test_the_first_row_of_an_id_counts() -> None:
    book = Book()
    book.imported("a", "completed")
    book.imported("a", "suspended")
    assert book.matching() == {}


def test_age_is_that_of_the_row_and_of_a_live_command_that_of_its_record() -> None:
    book = Book()
    book.imported("young", "suspended", created_at=2_000)
    book.imported("old", "suspended", created_at=1_999)
    book.invoked("live", at=1_999, due_at=50_000)
    book.invoked("late", at=2_000, due_at=50_000)
    assert set(book.matching(created_before=2_000)) == {"old", "live"}
    assert book.ledger.invoked == {"live", "late"}


def test_a_delay_that_is_over_at_once_is_none() -> None:
    book = Book()
    book.invoked("a", at=2_000, due_at=2_000)
    book.invoked("b", at=2_000)
    assert book.matching() == {}


def test_what_is_due_is_started_by_ticks_and_by_nothing_else() -> None:
    book = Book()
    book.invoked("a", at=2_000, due_at=3_000)
    book.invoked("b", at=2_000, due_at=3_001)
    book.invoked("c", at=4_000, due_at=9_000)
    assert set(book.matching()) == {"a", "b", "c"}
    book.add(Tick(tick=1), at=3_000)
    assert set(book.matching()) == {"b", "c"}
    book.add(Tick(tick=1), at=5_000)
    book.add(Tick(tick=3), at=5_000)
    assert set(book.matching()) == {"b", "c"}, "neither is the next tick"
    book.add(Tick(tick=2), at=5_000)
    assert set(book.matching()) == {"c"}


def test_a_tick_starts_as_many_as_it_says_the_oldest_first() -> None:
    book = Book()
    for number in (3, 1, 2):
        book.invoked(str(number), at=2_000, due_at=3_000 + number)
    book.add(Tick(tick=1, timers=2), at=9_000)
    assert set(book.matching()) == {"3"}


def test_others_services_are_left_out_but_their_timers_are_not() -> None:
    book = Book()
    book.invoked("other", at=2_000, due_at=3_000, service="Other")
    book.invoked("mine", at=2_000, due_at=3_001)
    book.add(Tick(tick=1, timers=1), at=9_000)
    assert set(book.matching()) == {"mine"}


def test_the_end_of_a_child_wakes_a_suspended_caller() -> None:
    book = Book()
    book.imported("a", "suspended")
    book.add(ChildEnded(parent="a", child="b", outcome="success", source=0, number=1), at=2_000)
    assert book.matching() == {}


def slept(book: Book, id: str, *, at: int, duration: int, attempt: int = 1) -> None:
    """A participant has begun it and let go of it while it sleeps."""
    book.add(Started(id=id, attempt=attempt, deployment="dp"), at)
    book.add(Steps(id=id, attempt=attempt, first=0, steps=(Step(kind=StepKind.SLEEP, duration=duration),)), at)
    book.add(Suspended(id=id, attempt=attempt, awaiting=(0,)), at)


def test_what_sleeps_is_suspended_until_the_first_tick_after_it() -> None:
    book = Book()
    book.add(Serve(lanes=("Greeter",)), at=1_000)
    book.invoked("a", at=2_000)
    slept(book, "a", at=3_000, duration=2_000)
    assert (book.matching(), book.ledger.due_at) == ({"a": "suspended"}, {"a": 5_000})
    book.add(Tick(tick=1), at=4_999)
    assert book.matching() == {"a": "suspended"}
    book.add(Tick(tick=2), at=5_000)
    assert (book.matching(), book.ledger.due_at) == ({}, {})
    assert book.ledger.not_understood == 0


def test_a_sleep_lasts_as_long_as_it_did_in_the_first_attempt() -> None:
    book = Book()
    book.invoked("a", at=2_000)
    slept(book, "a", at=3_000, duration=2_000)
    book.add(Tick(tick=1), at=5_000)
    slept(book, "a", at=6_000, duration=2_000, attempt=2)
    assert book.matching() == {}, "it was over already"


def test_what_runs_or_has_ended_is_neither_scheduled_nor_suspended() -> None:
    for report in (Started, Released, Completed):
        book = Book()
        book.imported("a", "suspended")
        more = {"outcome": "success"} if report is Completed else {}
        book.add(report(id="a", attempt=1, **more), at=2_000)
        assert (book.matching(), book.ledger.not_understood) == ({}, 0)


def test_reports_of_an_attempt_that_is_over_change_nothing() -> None:
    book = Book()
    book.invoked("a", at=2_000)
    slept(book, "a", at=3_000, duration=2_000)
    assert book.ledger.over == {"a": 1}
    book.add(Started(id="a", attempt=1), at=4_000)
    book.add(Completed(id="a", attempt=1, outcome="success"), at=4_000)
    assert book.matching() == {"a": "suspended"}


def test_what_is_not_understood_is_counted() -> None:
    for command in (
        Act(action="kill", id="a"),
        Paused(id="a", attempt=1, failure="", retry=1),
        Suspended(id="a", attempt=1, awaiting=(3,)),
        Steps(id="a", attempt=1, first=0, steps=(Step(kind=StepKind.CANCEL, name="a"),)),
    ):
        book = Book()
        book.imported("a", "suspended")
        book.add(command, at=2_000)
        assert book.ledger.not_understood == 1
