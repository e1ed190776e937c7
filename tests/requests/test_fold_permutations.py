"""Any order and duplication of what is heard gives one final state."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.model.errors import CorruptionError
from coordinator.model.messages import Progress, Tally
from coordinator.requests import fold, lifecycle
from coordinator.requests.state import REFUSED, Partition
from coordinator.requests.view import BatchView, view
from tests.requests.world import START, TIMES, Checked, World, random_history

HISTORIES = 500 * TIMES
PERMUTATIONS = 20
"""Of each history: 10,000 in all, ten times that in the long profile."""


def shown(core: Checked) -> tuple[object, ...]:
    """All that does not depend on when something was heard or sent, nor on controls after the end."""
    last: BatchView = view(core.known, START * 2)
    partitions = [
        (one.state, one.position, one.matched, one.ended, one.failed, one.members, one.propagated)
        for one in last.partitions
    ]
    counts = (last.matched, last.ended, last.applied, last.signalled, last.failed, last.not_applicable)
    return last.state, last.settled, last.finished_at, last.refusal, counts, last.remaining, partitions


def permuted(world: World, rng: random.Random) -> Checked:
    """The same history with progress in any order, repeated, and anywhere between the requests."""
    progress = world.progress + rng.choices(world.progress, k=len(world.progress) // 3)
    rng.shuffle(progress)
    requests = list(world.requests)
    core = Checked(world.core.partitions)
    lag = rng.choice([0.1, 0.5, 0.9])
    while requests or progress:
        from_requests = bool(requests) and (not progress or rng.random() < lag)
        core.step(*(requests.pop(0) if from_requests else progress.pop()))
    return core


@settings(max_examples=HISTORIES, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**48))
def test_every_order_and_repetition_ends_in_the_same_state(seed: int) -> None:
    world = random_history(seed)
    final = shown(world.core)
    rng = random.Random(seed)
    for _ in range(PERMUTATIONS):
        assert shown(permuted(world, rng)) == final, f"seed {seed}"


@settings(max_examples=HISTORIES, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**48))
def test_every_request_ends_and_settles_whatever_was_lost_or_away(seed: int) -> None:
    core = random_history(seed).core
    assert core.state in lifecycle.TERMINAL
    assert lifecycle.ended(core.known)
    # A partition that did not take the batch does not say what has arrived there on account of it.
    refused = any(one.ending is not None and one.ending.state == REFUSED for one in core.known.partitions)
    assert lifecycle.settled(core.known) or refused
    assert core.told[-1].settled or refused
    assert core.told[-1].state == core.state
    assert [told.number for told in core.told] == list(range(1, len(core.told) + 1))


def test_the_histories_reach_every_state() -> None:
    """Otherwise the two tests above would show less than they say."""
    told = {one.state for seed in range(300) for one in random_history(seed).core.told}
    assert told == {state.value for state in lifecycle.State}


def test_the_same_seed_gives_the_same_history() -> None:
    assert random_history(7).core.known == random_history(7).core.known


# -- what the fold refuses -----------------------------------------------------------------------------------


def told(number: int, *, state: str = "running", matched: int = 0, at: int = START, **fields: Any) -> Progress:
    tally = fields.pop("tally", Tally(matched=matched, ended=matched))
    return Progress(
        request="r1", partition=0, number=number, state=state, position=5, revision=0, at=at, tally=tally,
        **fields,
    )  # fmt: skip


def folded(*progress: Progress) -> Partition:
    partition = Partition()
    for one in progress:
        partition = fold.fold(partition, one, START)
    return partition


def test_the_highest_number_is_the_newest_whenever_it_comes() -> None:
    assert folded(told(3, matched=4), told(1, matched=2)).newest == told(3, matched=4)


def test_the_ending_is_the_first_terminal_progress_whenever_it_comes() -> None:
    first = told(5, state="completed", matched=3, at=START + 10)
    later = told(9, state="completed", matched=3, at=START + 90)
    assert folded(first, later).ending == folded(later, first).ending
    assert folded(later, first).ending is not None
    assert folded(later, first).ending.at == START + 10


def test_counters_move_on_after_the_end_and_its_state_does_not() -> None:
    asked = Tally(matched=3, ended=1, signalled=2)
    done = Tally(matched=3, ended=3)
    partition = folded(told(5, state="completed", tally=asked), told(6, state="running", tally=done))
    assert partition.newest is not None
    assert partition.newest.tally == done
    assert partition.ending is not None
    assert partition.ending.state == "completed"


@pytest.mark.parametrize(
    ("progress", "says"),
    [
        ([told(1, tally=Tally(matched=2, ended=1))], "do not add up"),
        ([told(1, state="resting")], "unknown state"),
        ([told(1, matched=5), told(2, matched=4)], "never falls"),
        ([told(2, matched=4), told(1, matched=5)], "never falls"),
        ([told(1, matched=5), told(1, matched=6)], "two different things"),
        ([told(1, state="completed"), told(2, state="aborted")], "only once"),
        ([told(2, state="aborted"), told(1, state="completed")], "only once"),
    ],
)
def test_what_contradicts_itself_is_corruption_in_either_order(progress: list[Progress], says: str) -> None:
    with pytest.raises(CorruptionError, match=says):
        folded(*progress)


def test_progress_of_a_partition_that_the_request_does_not_have_is_corruption() -> None:
    core = Checked(2)
    with pytest.raises(CorruptionError, match="one over 2 partitions"):
        core.step(
            Progress(
                request="r1", partition=2, number=1, state="running", position=0, revision=0, at=START,
                tally=Tally(),
            ),
            START,
        )  # fmt: skip
