"""Which cluster, and the settings of its client, under the names that Kafka's own client gives them.

What `kafka-topics.sh --command-config client.properties` takes can be taken over line by line: what is understood
here means the same, and what is not is refused, so that no setting is silently without effect. Keys and certificates
are PEM files, which Kafka reads too (`ssl.truststore.type=PEM`); Java's own format is refused.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.logs.port import Stream

SCHEME: Final = "kafka://"
PREFIX_DEFAULT: Final = "coordinator."

KNOWN: Final = {
    "client.id": "under which brokers log this client; coordinator if not given; a server's processes add @HOST:PORT",
    "security.protocol": "PLAINTEXT (default), SSL, SASL_PLAINTEXT or SASL_SSL",
    "sasl.mechanism": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    "sasl.jaas.config": 'names the user: … required username="…" password="…";',
    "ssl.truststore.location": "PEM file with the certificates that are trusted; the system's if not given",
    "ssl.truststore.type": "PEM",
    "ssl.keystore.location": "PEM file with this client's certificate chain and key",
    "ssl.keystore.type": "PEM",
    "ssl.key.password": "of the key in that file",
    "ssl.endpoint.identification.algorithm": "https (default), or nothing to accept a certificate for another name",
    "request.timeout.ms": "how long a broker may take to answer; 10000",
    "delivery.timeout.ms": "how long an append may take, retries included, before it counts as failed; 30000",
    "retry.backoff.ms": "pause before a request is repeated; 100",
    "metadata.max.age.ms": "how often leaders are looked up though nothing has failed; 300000",
    "connections.max.idle.ms": "after which an unused connection is closed; 540000",
    "compression.type": "none (default), gzip, snappy, lz4 or zstd",
    "session.timeout.ms": "silence after which a process counts as gone, and its partitions go to others; 10000",
    "heartbeat.interval.ms": "how often a process says that it lives; 3000",
    "group.instance.id": "name of this process, for a static membership: it keeps its partitions over a restart",
    "topic.prefix": f"what the names of the topics begin with; {PREFIX_DEFAULT} (this one is not Kafka's)",
}
"""Every setting, and what it says."""

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MS: Final = {
    "request.timeout.ms": 10_000,
    "delivery.timeout.ms": 30_000,
    "retry.backoff.ms": 100,
    "metadata.max.age.ms": 300_000,
    "connections.max.idle.ms": 540_000,
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
}
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{0,200}")
_OPTION: Final = re.compile(r'(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"')


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"COORDINATOR_{'kafka.' + name}".upper().replace(".", "_")


def from_environment() -> dict[str, str]:
    """The settings that the environment has. A variable that is of none keeps its name, and is refused by it."""
    names = {variable(name): name for name in KNOWN}
    given = {one: value for one, value in os.environ.items() if one.startswith(variable(""))}
    return {names.get(one, one): value for one, value in given.items()}


class SettingsError(ValueError):
    """A setting that is none, or whose value cannot be meant."""


@dataclass(frozen=True)
class KafkaSettings:
    """One cluster and how to be its client. Raises SettingsError when that cannot be meant."""

    bootstrap: str
    """HOST:PORT, several with commas."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """By the names in KNOWN."""

    @classmethod
    def of(cls, url: str, properties: Mapping[str, str]) -> "KafkaSettings":
        """From kafka://HOST:PORT[,HOST:PORT…]."""
        servers = url.removeprefix(SCHEME).rstrip("/")
        if not url.startswith(SCHEME) or not re.fullmatch(r"[^\s/,]+:\d{1,5}(,[^\s/,]+:\d{1,5})*", servers):
            raise SettingsError(
                f"{url} is no address of Kafka; write {SCHEME}HOST:PORT, or several HOST:PORT with commas"
            )
        return cls(servers, properties)

    def __post_init__(self) -> None:
        for name in self.properties:
            if name not in KNOWN:
                raise SettingsError(f"there is no Kafka setting {name}; there are {', '.join(KNOWN)}")
        self._one_of("security.protocol", _PROTOCOLS)
        self._one_of("sasl.mechanism", _MECHANISMS)
        self._one_of("compression.type", ("none", "gzip", "snappy", "lz4", "zstd"))
        self._one_of("ssl.endpoint.identification.algorithm", ("https", ""))
        for kind in ("ssl.truststore", "ssl.keystore"):
            if f"{kind}.location" in self.properties and self.properties.get(f"{kind}.type") != "PEM":
                raise SettingsError(f"{kind}.location must be a PEM file here: set {kind}.type to PEM, and convert it")
        for name in _MS:
            if not self._text(name, "1").isdecimal() or self.ms(name) == 0:
                raise SettingsError(f"{name} is a number of milliseconds, not {self.properties[name]!r}")
        if not _TOPIC.fullmatch(self.prefix):
            raise SettingsError(f"topic.prefix may have letters, digits, '.', '_' and '-', not {self.prefix!r}")
        if self.protocol.startswith("SASL"):
            self._user()

    @property
    def prefix(self) -> str:
        """What the names of the topics begin with."""
        return self._text("topic.prefix", PREFIX_DEFAULT)

    def topic(self, stream: Stream) -> str:
        """The topic of a stream."""
        return self.prefix + stream

    @property
    def changelog(self) -> str:
        """The topic with the coordinator's table, under the name that Faust gives it."""
        return f"{self.prefix}requests-state-changelog"

    @property
    def protocol(self) -> str:
        """How connections are secured."""
        return self._text("security.protocol", "PLAINTEXT")

    @property
    def client_id(self) -> str:
        """What brokers know this client by."""
        return self._text("client.id", "coordinator")

    def ms(self, name: str) -> int:
        """One of the settings that are times, in milliseconds."""
        return int(self._text(name, str(_MS[name])))

    def client(self) -> dict[str, Any]:
        """The arguments that each client of aiokafka takes."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": self.ms("request.timeout.ms"),
            "retry_backoff_ms": self.ms("retry.backoff.ms"),
            "metadata_max_age_ms": self.ms("metadata.max.age.ms"),
            "connections_max_idle_ms": self.ms("connections.max.idle.ms"),
            "security_protocol": self.protocol,
        }
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = self._ssl_context()
        if self.protocol.startswith("SASL"):
            user, password = self._user()
            arguments["sasl_mechanism"] = self._text("sasl.mechanism", "")
            arguments |= {"sasl_plain_username": user, "sasl_plain_password": password}
        return arguments

    def producer(self) -> dict[str, Any]:
        """The arguments of a producer."""
        compression = self._text("compression.type", "none")
        return self.client() | {"compression_type": None if compression == "none" else compression}

    def member(self) -> dict[str, Any]:
        """The arguments of a member of a group, beside those of `client`."""
        return {
            "session_timeout_ms": self.ms("session.timeout.ms"),
            "heartbeat_interval_ms": self.ms("heartbeat.interval.ms"),
            "group_instance_id": self.properties.get("group.instance.id"),
        }

    def _text(self, name: str, default: str) -> str:
        return self.properties.get(name, default)

    def _one_of(self, name: str, values: tuple[str, ...]) -> None:
        if self._text(name, values[0]) not in values:
            raise SettingsError(f"{name} is {self.properties[name]!r}; it can be {', '.join(filter(None, values))}")

    def _user(self) -> tuple[str, str]:
        if "sasl.mechanism" not in self.properties:
            raise SettingsError(f"security.protocol {self.protocol} needs sasl.mechanism: {', '.join(_MECHANISMS)}")
        options = {
            name: re.sub(r"\\(.)", r"\1", said) for name, said in _OPTION.findall(self._text("sasl.jaas.config", ""))
        }
        if not {"username", "password"} <= options.keys():
            raise SettingsError('sasl.jaas.config must say who this is: … required username="…" password="…";')
        return options["username"], options["password"]

    def _ssl_context(self) -> ssl.SSLContext:
        trusted, own = self.properties.get("ssl.truststore.location"), self.properties.get("ssl.keystore.location")
        try:
            context = ssl.create_default_context(cafile=trusted)
            if own is not None:
                context.load_cert_chain(own, password=self.properties.get("ssl.key.password"))
        except (OSError, ssl.SSLError) as error:
            files = " or ".join(filter(None, (trusted, own)))
            raise SettingsError(f"{files} cannot be read as PEM: {error}") from error
        context.check_hostname = self._text("ssl.endpoint.identification.algorithm", "https") == "https"
        return context
