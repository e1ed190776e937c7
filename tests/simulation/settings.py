"""How much the simulator tries, and from which seed."""

from __future__ import annotations

import os
import random
from typing import Final

PROFILE: Final = os.environ.get("COORDINATOR_TEST_PROFILE", "ci")
LONG: Final = PROFILE == "long"


def _seed() -> int:
    given = os.environ.get("COORDINATOR_TEST_SEED")
    if given is not None:
        return int(given)
    return random.SystemRandom().randrange(2**32) if LONG else 1


SEED: Final = _seed()
"""Of this session; each log of the simulator has a seed of its own, made of this and its number."""
