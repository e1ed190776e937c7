"""Topics on the command line, and the settings of Kafka's client."""

import json
import secrets
from pathlib import Path

import pytest

from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.kafka.settings import KNOWN, variable
from coordinator.logs.kafka.topics import create_or_verify, delete
from tests.cli.conftest import Cli
from tests.kafka.broker import free_port


@pytest.fixture
def alone(tmp_path: Path) -> Cli:
    """A command line without a server."""
    return Cli(tmp_path)


def test_topics_are_made_and_then_as_they_have_to_be(alone: Cli, kafka: str) -> None:
    prefix = f"test-{secrets.token_hex(6)}."
    create = ("topics", "create", "--log", f"kafka://{kafka}")
    set_prefix = {variable("topic.prefix"): prefix}
    done = alone(*create, "--partitions", "2", **set_prefix)
    assert (done.returncode, done.stderr) == (0, "")
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert {topic["topic"]: topic["partitions"] for topic in made} == {
        f"{prefix}requests": 1,
        f"{prefix}commands": 2,
        f"{prefix}progress": 1,
        f"{prefix}deliveries": 2,
        f"{prefix}dead-letters": 1,
        f"{prefix}requests-state-changelog": 1,
    }
    assert all(topic["created"] for topic in made)
    again = alone(*create, **set_prefix)
    assert again.returncode == 0
    assert not any(json.loads(line)["created"] for line in again.stdout.splitlines())
    other = alone(*create, "--partitions", "3", **set_prefix)
    assert other.returncode == 6
    assert other.stderr.splitlines() == [
        f"{prefix}{name}: it has 2 partitions and 3 are wanted; only a new topic can have others"
        for name in ("commands", "deliveries")
    ]


def test_more_replicas_than_brokers_is_said(alone: Cli, kafka: str) -> None:
    prefix = {variable("topic.prefix"): f"test-{secrets.token_hex(6)}."}
    done = alone("topics", "create", "--log", f"kafka://{kafka}", "--replication-factor", "200", **prefix)
    assert done.returncode == 1
    assert "Give --replication-factor" in done.stderr
    done = alone("topics", "create", "--log", f"kafka://{kafka}", "--min-insync-replicas", "200", **prefix)
    assert done.returncode == 2
    assert "can never be in sync" in done.stderr


def test_a_broker_that_does_not_answer_is_unreachable(alone: Cli) -> None:
    done = alone("topics", "create", "--log", f"kafka://127.0.0.1:{free_port()}")
    assert done.returncode == 4
    assert "no broker answers" in done.stderr


def test_the_embedded_log_has_no_topics(alone: Cli) -> None:
    assert alone("topics", "create").returncode == 2


def test_settings_come_from_the_environment_then_the_file_quoted_or_not(alone: Cli) -> None:
    create = ("topics", "create", "--log", "kafka://127.0.0.1:1")
    file = alone.directory / "coordinator.toml"
    for text in ('security.protocol = "nonsense"', '"security.protocol" = "nonsense"'):
        file.write_text(f"[kafka]\n{text}\n")
        done = alone(*create)
        assert (done.returncode, "'nonsense'" in done.stderr) == (2, True)
        assert alone(*create, **{variable("security.protocol"): "PLAINTEXT"}).returncode == 4
    file.write_text('[kafka]\n"acks" = "0"\n')
    assert "no Kafka setting acks" in alone(*create).stderr


def test_a_certificate_in_the_file_lies_beside_the_file(alone: Cli) -> None:
    elsewhere = alone.directory / "etc"
    elsewhere.mkdir()
    file = elsewhere / "settings.toml"
    file.write_text(
        '[kafka]\nsecurity.protocol = "SSL"\nssl.truststore.type = "PEM"\nssl.truststore.location = "ca.pem"\n'
    )
    done = alone("topics", "create", "--log", "kafka://127.0.0.1:1", COORDINATOR_CONFIG=str(file))
    assert done.returncode == 2
    assert str(elsewhere / "ca.pem") in done.stderr


def test_a_variable_is_the_setting_s_name() -> None:
    assert variable("sasl.jaas.config") == "COORDINATOR_KAFKA_SASL_JAAS_CONFIG"
    assert len({variable(name) for name in KNOWN}) == len(KNOWN)


def test_a_server_that_wants_other_partitions_than_the_topics_have_does_not_start(alone: Cli, kafka: str) -> None:
    prefix = {variable("topic.prefix"): f"test-{secrets.token_hex(6)}."}
    assert alone("topics", "create", "--log", f"kafka://{kafka}", "--partitions", "2", **prefix).returncode == 0
    listen = f"127.0.0.1:{free_port()}"
    done = alone("serve", "--log", f"kafka://{kafka}", "--partitions", "3", "--listen", listen, **prefix)
    assert done.returncode == 2
    assert "commands has 2 partitions and --partitions is 3" in done.stderr


def test_topics_that_were_deleted_can_be_made_again(kafka: str) -> None:
    settings = KafkaSettings.of(f"kafka://{kafka}", {"topic.prefix": f"test-{secrets.token_hex(6)}."})
    delete(settings)  # those that are not there are no error
    create_or_verify(settings, 2)
    delete(settings)
    assert all(topic.created for topic in create_or_verify(settings, 3))
