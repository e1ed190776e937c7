"""What every test run is configured with: how much is tried, and from which seed.

`COORDINATOR_TEST_PROFILE` is `ci` (the default: the same examples every time) or `long` (many more, from a
seed drawn now). `COORDINATOR_TEST_SEED` sets the seed of the simulator; the header of the run prints it, so
that any run can be repeated.
"""

from __future__ import annotations

import hypothesis
import pytest

from tests.simulation import settings

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", max_examples=5_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(settings.PROFILE)


def pytest_report_header(config: pytest.Config) -> str:
    return f"coordinator: COORDINATOR_TEST_PROFILE={settings.PROFILE} COORDINATOR_TEST_SEED={settings.SEED}"
