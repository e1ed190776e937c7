"""Filters mean the same in SQL and in Python, on every row; or a batch would hang on which path took it.

Many rows stand in one table, each drawn filter is asked of all of them both ways. Values come from small pools
of awkward ones, so that equality is common: nulls, equal times, empty keys, quotes, patterns of LIKE, text that
differs only in normalization or case, and text whose order differs between UTF-8 and UTF-16.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from coordinator.model.errors import CallerError
from coordinator.model.filters import EMPTY, Filter, check, predicate, target_parts, where, with_statuses_of
from coordinator.model.invocation import COLUMNS, Invocation
from coordinator.model.statuses import NAMES, Action, Status
from coordinator.stores.port import Candidates, Condition, Scan, Slice
from coordinator.stores.sqlite import SqliteStore
from tests.simulation.settings import LONG, SEED
from tests.stores.example import row

ROWS = 1_000
FILTERS = 1_000 if LONG else 120

TEXTS = (
    *("A", "a", "A ", "AA", "%", "_", "A%", "'", '"', "a'b", "\\", "--", "\u00e9", "e\u0301", "\U0001d518", "\uffff"),
    *("null", "0", "1.0", "\u00df", "SS", "\u0130", "i", "a\nb", "?", ":f_key", "*", "\ufeffA"),
)
KEYS = (None, "", *TEXTS, "A/a", "/", "a/")
TIMES = (0, 1, 5, 5, 5, 6, 1_700_000_000_000_000, 2**62)
IDS = (*(f"inv_{number}" for number in range(40)), "INV_1", "inv_1 ")


def some_rows(draw: random.Random) -> Iterator[Invocation]:
    for seq in range(1, ROWS + 1):
        yield row(
            seq,
            id=f"inv_{seq}",
            service=draw.choice(TEXTS),
            handler=draw.choice(TEXTS),
            key=draw.choice(KEYS),
            type=draw.randrange(3),
            created_at=draw.choice(TIMES),
            modified_at=draw.choice(TIMES),
            status=draw.randrange(8),
            deployment=draw.choice((None, *TEXTS)),
        )


def some_target(draw: random.Random) -> str:
    parts = [draw.choice(TEXTS), draw.choice((*TEXTS, "A/a")), draw.choice(TEXTS)]
    return "/".join(parts[: draw.randrange(1, 4)])


def some_filters(draw: random.Random, rows: list[Invocation]) -> Iterator[Filter]:
    """One to three fields each; half of the values are those of some row."""
    while True:
        like = draw.choice(rows)
        time = draw.choice((*TIMES, like.created_at + 1, like.modified_at - 1))
        target = f"{like.service}/{like.key}/{like.handler}" if like.key is not None else like.service
        values: dict[str, Any] = {
            "service": draw.choice((like.service, draw.choice(TEXTS))),
            "handler": draw.choice((like.handler, draw.choice(TEXTS))),
            "key": draw.choice((like.key or "", draw.choice(TEXTS))),
            "deployment": draw.choice((like.deployment or "A", draw.choice(TEXTS))),
            "target": draw.choice((target, f"{like.service}/{like.key or 'A'}", some_target(draw))),
            "status": tuple(draw.sample(sorted(NAMES.values()), draw.randrange(1, 8))),
            "ids": tuple(draw.sample((*IDS, like.id), draw.randrange(1, 30))),
            "created_before": time,
            "created_after": time,
            "modified_before": time,
            "modified_after": time,
        }
        chosen = draw.sample(sorted(values), draw.choice((1, 1, 2, 2, 3)))
        filter = Filter(**{name: values[name] for name in chosen}, all=draw.random() < 0.2)
        try:
            check(filter)
        except CallerError:
            continue
        yield filter


def test_sql_and_python_agree_on_every_row(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    rows = list(some_rows(draw))
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE invocation ({', '.join(COLUMNS)})")
    places = ", ".join("?" * len(COLUMNS))
    connection.executemany(f"INSERT INTO invocation VALUES ({places})", map(msgspec.structs.astuple, rows))
    store = SqliteStore(tmp_path / "store")
    store.begin()
    for one in rows:
        store.insert(one, None)
    everything = Slice(Scan(Candidates.ALL), 0, ROWS)
    pairs = matches = 0
    for filter, _ in zip(some_filters(draw, rows), range(FILTERS), strict=False):
        passes = predicate(filter)
        in_python = [one.seq for one in rows if passes(one)]
        condition, values = where(filter)
        found = connection.execute(f"SELECT seq FROM invocation WHERE {condition} ORDER BY seq", values)
        assert [seq for (seq,) in found] == in_python, filter
        selected = store.select(everything, Condition(filter, 1), ROWS)
        assert [one.seq for one in selected] == in_python, filter
        pairs += len(rows)
        matches += len(in_python)
    store.close()
    assert pairs >= (1_000_000 if LONG else 100_000)
    assert 0.02 * pairs < matches < 0.8 * pairs, "most filters should match some rows and not all"


@pytest.mark.parametrize(
    ("filter", "seqs"),
    [
        (Filter(all=True), [1, 2, 3, 4]),
        (Filter(key=""), [2]),
        (Filter(deployment="dp_1"), [1, 2, 3]),
        (Filter(created_before=5), [1]),
        (Filter(created_after=5), [2, 3, 4]),
        (Filter(created_after=5, created_before=5), []),
        (Filter(status=("running",)), []),
        (Filter(ids=("inv_3", "inv_1", "inv_1")), [1, 3]),
        (Filter(target="Greeter"), [1, 2, 3, 4]),
        (Filter(target="Greeter/greet"), [1, 3]),
        (Filter(target="Greeter/greet/greet"), [3]),
        (Filter(target="Greeter/"), None),
        (Filter(target="/greet"), None),
        (Filter(target="Greeter/greet/"), None),
        (Filter(), None),
        (Filter(service=""), None),
        (Filter(key="a\0"), None),
        (Filter(status=()), None),
        (Filter(status=("Running",)), None),
        (Filter(ids=()), None),
    ],
)
def test_a_filter_means_what_the_words_say(filter: Filter, seqs: list[int] | None) -> None:
    """None: it is refused. On services what follows the name is a handler, on keyed targets a key."""
    rows = [
        row(1, created_at=1),
        row(2, type=1, key="", created_at=5),
        row(3, type=1, key="greet", created_at=5),
        row(4, type=1, key="x", handler="other", created_at=6, deployment=None),
    ]
    if seqs is None:
        with pytest.raises(CallerError):
            check(filter)
    else:
        check(filter)
        assert [one.seq for one in rows if predicate(filter)(one)] == seqs


def test_the_empty_filter_restricts_nothing_where_it_is_allowed() -> None:
    check(EMPTY, may_be_empty=True)
    assert predicate(EMPTY)(row(1))
    assert where(EMPTY) == ("1", {})


@pytest.mark.parametrize(
    ("name", "says"), [("cancelled", "an outcome, of invocations whose status is completed"), ("bogus", "scheduled, ")]
)
def test_what_is_no_status_is_refused_with_what_to_say_instead(name: str, says: str) -> None:
    with pytest.raises(CallerError, match=says):
        check(Filter(status=("ready", name)))


def test_without_a_status_an_action_means_those_that_it_acts_on() -> None:
    assert with_statuses_of(Filter(all=True), Action.PURGE).status == (NAMES[Status.COMPLETED],)
    assert with_statuses_of(Filter(status=("ready",)), Action.PURGE).status == ("ready",)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("S", ("S", None, None)),
        ("S/h", ("S", "h", None)),
        ("S/k/h", ("S", "k", "h")),
        ("S/k/with/slashes/h", ("S", "k/with/slashes", "h")),
        ("S//h", ("S", "", "h")),
    ],
)
def test_a_target_has_a_service_a_key_and_a_handler(target: str, parts: tuple[str, str | None, str | None]) -> None:
    assert target_parts(target) == parts
