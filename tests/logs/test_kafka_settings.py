"""The settings of Kafka's client: what is understood, and what is refused with a sentence."""

from pathlib import Path

import pytest
import trustme

from coordinator.logs.kafka import KafkaSettings, SettingsError
from coordinator.logs.kafka.settings import KNOWN, from_environment
from coordinator.logs.port import Stream

USER = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="a \\"b\\" c";'
SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.jaas.config": USER}


def test_an_address_may_name_several_brokers() -> None:
    assert KafkaSettings.of("kafka://a:9092,b:9093", {}).client()["bootstrap_servers"] == "a:9092,b:9093"


@pytest.mark.parametrize(
    "url", ["embedded", "kafka://", "kafka://host", "kafka://host:port", "http://host:1", "kafka://a:1/x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="kafka://HOST:PORT"):
        KafkaSettings.of(url, {})


def test_topics_have_the_prefix() -> None:
    assert KafkaSettings("a:1").topic(Stream.DEAD_LETTERS) == "coordinator.dead-letters"
    assert KafkaSettings("a:1", {"topic.prefix": "prod-"}).topic(Stream.REQUESTS) == "prod-requests"


def test_the_user_is_read_from_the_line_that_kafka_s_own_client_takes() -> None:
    arguments = KafkaSettings("a:1", SASL).client()
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("me", 'a "b" c')
    assert (arguments["security_protocol"], arguments["sasl_mechanism"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")


def test_certificates_come_from_pem_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    trusted, own = tmp_path / "ca.pem", tmp_path / "me.pem"
    authority.cert_pem.write_to_path(trusted)
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(own)
    properties = {
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(own),
    }
    context = KafkaSettings("a:1", properties).client()["ssl_context"]
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname
    unnamed = properties | {"ssl.endpoint.identification.algorithm": ""}
    assert not KafkaSettings("a:1", unnamed).client()["ssl_context"].check_hostname
    with pytest.raises(SettingsError, match="cannot be read as PEM"):
        KafkaSettings("a:1", properties | {"ssl.truststore.location": str(tmp_path / "nowhere.pem")}).client()


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"bootstrap.servers": "b:1"}, "no Kafka setting bootstrap.servers"),
        ({"security.protocol": "TLS"}, "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl.mechanism": "GSSAPI"}, "SCRAM-SHA-512"),
        ({"security.protocol": "SASL_SSL"}, "needs sasl.mechanism"),
        ({**SASL, "sasl.jaas.config": "required;"}, "must say who this is"),
        ({"ssl.truststore.location": "trust.jks"}, "set ssl.truststore.type to PEM"),
        ({"request.timeout.ms": "soon"}, "number of milliseconds"),
        ({"request.timeout.ms": "0"}, "number of milliseconds"),
        ({"topic.prefix": "a/b"}, "letters, digits"),
        ({"compression.type": "brotli"}, "none, gzip"),
    ],
)
def test_what_cannot_be_meant_is_refused(properties: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        KafkaSettings("a:1", properties)


def test_the_environment_has_settings_and_what_is_misspelt_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_KAFKA_SESSION_TIMEOUT_MS", "7000")
    assert KafkaSettings("a:1", from_environment()).ms("session.timeout.ms") == 7_000
    monkeypatch.setenv("COORDINATOR_KAFKA_SECURITY_PROTOKOL", "SSL")
    with pytest.raises(SettingsError, match="no Kafka setting COORDINATOR_KAFKA_SECURITY_PROTOKOL"):
        KafkaSettings("a:1", from_environment())


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "kafka.md").read_text(encoding="utf-8")
    assert {name for name in KNOWN if f"| `{name}` |" not in page} == set()
