"""What every test run is configured with: how much is tried, and from which seed.

`COORDINATOR_TEST_PROFILE` is `ci` (the default: the same examples every time) or `long` (many more, from a
seed drawn now). `COORDINATOR_TEST_SEED` sets the seed of the simulator; the header of the run prints it, so
that any run can be repeated.

Tests that need Kafka take the fixture `kafka`: the address of one broker for the whole run, which is looked for as
`tests.kafka.broker` says. `--without-kafka` leaves them out, each said to be skipped; where `CI` is set it is refused.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.kafka import broker
from tests.simulation import settings

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", max_examples=5_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(settings.PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-kafka", action="store_true", help="leave out the tests that need a Kafka broker")


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores interrupts, and so would all commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--without-kafka") and os.environ.get("CI"):
        raise pytest.UsageError("CI is set, and CI runs the tests on Kafka: leave --without-kafka out")


def pytest_report_header(config: pytest.Config) -> list[str]:
    header = [f"coordinator: COORDINATOR_TEST_PROFILE={settings.PROFILE} COORDINATOR_TEST_SEED={settings.SEED}"]
    if config.getoption("--without-kafka"):
        header.append("coordinator: the tests on Kafka ARE LEFT OUT (--without-kafka)")
    return header


@pytest.fixture(scope="session")
def own_brokers(request: pytest.FixtureRequest) -> None:
    """For tests that start brokers of their own, such as to kill them."""
    if request.config.getoption("--without-kafka"):
        pytest.skip("needs Kafka, and --without-kafka was given")


@pytest.fixture(scope="session")
def kafka(own_brokers: None) -> Iterator[str]:
    """The address of a broker, HOST:PORT."""
    try:
        with broker.running() as bootstrap:
            yield bootstrap
    except broker.NoBrokerError as error:
        pytest.fail(str(error), pytrace=False)
