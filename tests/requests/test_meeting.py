"""The coordinator machine and the partition machine understand each other."""

from __future__ import annotations

import pytest

from coordinator.model import limits
from coordinator.requests import lifecycle
from tests.requests.meeting import Meeting, meet
from tests.requests.world import TIMES

SEEDS = 60 * TIMES


def assert_all_over(meeting: Meeting) -> None:
    left = {id: core.state for id, core in meeting.cores.items() if not lifecycle.settled(core.known)}
    assert left == {}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_ends_and_settles(seed: int) -> None:
    assert_all_over(meet(seed, lose=0.0))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_ends_and_settles_though_commands_are_lost(seed: int) -> None:
    assert_all_over(meet(seed, lose=0.2))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_ends_and_settles_though_partitions_have_room_for_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PENDING_BATCHES_MAX", 1)
    assert_all_over(meet(seed, lose=0.0))
