"""What every test run is configured with: how much is tried, and from which seed.

`COORDINATOR_TEST_PROFILE` is `ci` (the default: the same examples every time) or `long` (many more, from a
seed drawn now). `COORDINATOR_TEST_SEED` sets the seed of the simulator; the header of the run prints it, so
that any run can be repeated.

Tests that need Kafka take the fixture `kafka`: the address of one broker for the whole run, which is looked for as
`tests.kafka.broker` says. `--without-kafka` leaves them out, each said to be skipped; where `CI` is set it is refused.
`--without-docker-compose` does the same for those that have docker-compose read docker-compose.yml.
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

LEFT_OUT = {
    "--without-kafka": "the tests on Kafka",
    "--without-docker-compose": "the tests that have docker-compose read docker-compose.yml",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, what in LEFT_OUT.items():
        parser.addoption(option, action="store_true", help=f"leave out {what}")


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores interrupts, and so would all commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for option, what in LEFT_OUT.items():
        if config.getoption(option) and os.environ.get("CI"):
            raise pytest.UsageError(f"CI is set, and CI runs {what}: leave {option} out")


def pytest_report_header(config: pytest.Config) -> list[str]:
    header = [f"coordinator: COORDINATOR_TEST_PROFILE={settings.PROFILE} COORDINATOR_TEST_SEED={settings.SEED}"]
    for option, what in LEFT_OUT.items():
        if config.getoption(option):
            header.append(f"coordinator: {what} ARE LEFT OUT ({option})")
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
