"""A broker with SASL_SSL and ACLs: who may do what is the cluster's to say, and is said by the same settings."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from cryptography.hazmat.primitives import serialization

from coordinator import Client, Filter, kill
from coordinator.client import NotFoundError, Progress, UnauthorizedError
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import Bounds, Entry, LogError, Stream
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.requests.role import RequestsRole
from tests.kafka.broker import Broker

USERS = ("admin", "coordinator", "reader", "operator")
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"


def for_java(issued: trustme.LeafCert) -> bytes:
    """Key and certificates in PEM; Java reads a key in PKCS 8 only."""
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    certificates = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificates


class Secured:
    """The broker, and its users' settings."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self._trusted, own = directory / "ca.pem", directory / "broker.pem"
        authority.cert_pem.write_to_path(self._trusted)
        own.write_bytes(for_java(authority.issue_cert("127.0.0.1")))
        users = "".join(f' user_{user}="{self._password(user)}"' for user in USERS)
        self.broker = Broker(
            directory,
            protocol="SASL_SSL",
            settings={
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(own),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self._trusted),
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{self._login('admin')[:-1]}{users};",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:admin;User:ANONYMOUS",  # the controller's own listener has no users
            },
            format_options=[
                option
                for user in USERS
                for option in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={self._password(user)}]")
            ],
        )

    def settings(self, user: str, password: str | None = None) -> KafkaSettings:
        return KafkaSettings(self.broker.bootstrap, self._properties(user, password))

    def client(self, user: str, password: str | None = None) -> Client:
        return Client(f"kafka://{self.broker.bootstrap}", kafka=self._properties(user, password), patience_s=60)

    def allow(self, user: str, *what: str) -> None:
        """Grant it, with the tool that operators use and the settings that it shares with the coordinator."""
        file = self.broker.directory / "admin.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in self._properties("admin").items()))
        where = ["--bootstrap-server", self.broker.bootstrap, "--command-config", str(file)]
        self.broker.run_tool(
            "org.apache.kafka.tools.AclCommand", *where, "--add", "--allow-principal", f"User:{user}", *what
        )

    def _properties(self, user: str, password: str | None = None) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": self._login(user, password),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._trusted),
        }

    def _login(self, user: str, password: str | None = None) -> str:
        return f'{LOGIN} username="{user}" password="{password or self._password(user)}";'

    def _password(self, user: str) -> str:
        return f"{user}-secret"


@pytest.fixture(scope="module")
def secured(own_brokers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    it = Secured(tmp_path_factory.mktemp("secured"))
    it.broker.start()
    try:
        create_or_verify(it.settings("admin"), 1)
        it.allow("coordinator", "--operation", "All", "--topic", "coordinator.", "--resource-pattern-type", "prefixed")
        it.allow("reader", "--operation", "Read", "--topic", "coordinator.progress")
        asked = ["--topic", "coordinator.requests", "--topic", "coordinator.progress"]
        it.allow("operator", "--operation", "Read", *asked)
        it.allow("operator", "--operation", "Describe", "--topic", "coordinator.commands")
        yield it
    finally:
        it.broker.kill()


def test_who_may_do_everything_with_the_topics_has_a_log(secured: Secured) -> None:
    with closing(KafkaLog(secured.settings("coordinator"))) as log:
        assert log.append([Entry(Stream.PROGRESS, 0, b"told")]) == [0]
        log.append([Entry(Stream.COMMANDS, 0, b"")])
        log.trim(Stream.COMMANDS, 0, 1)


def test_who_may_only_read_progress_reads_it_and_cannot_submit(secured: Secured) -> None:
    reader = secured.settings("reader")

    async def read() -> bytes:
        consumer = AIOKafkaConsumer(reader.topic(Stream.PROGRESS), **reader.client(), auto_offset_reset="earliest")
        await consumer.start()
        try:
            value: bytes = (await consumer.getone()).value
            return value
        finally:
            await consumer.stop()

    async def submit() -> None:
        producer = AIOKafkaProducer(**reader.client())
        await producer.start()
        try:
            await producer.send_and_wait(reader.topic(Stream.REQUESTS), b"a submission", partition=0)
        finally:
            await producer.stop()

    with closing(KafkaLog(secured.settings("coordinator"))) as log:
        log.append([Entry(Stream.PROGRESS, 0, b"told")])
        assert asyncio.run(read()) == b"told"
        with pytest.raises(TopicAuthorizationFailedError):
            asyncio.run(submit())
        assert log.bounds(Stream.REQUESTS, 0) == Bounds(0, 0)


def test_the_python_client_follows_batches_where_it_may_read_and_submits_them_where_it_may_write(
    secured: Secured, tmp_path: Path
) -> None:
    async def looked() -> None:
        async with secured.client("operator") as client:
            with pytest.raises(NotFoundError):
                await client.batch("nobody")
            with pytest.raises(UnauthorizedError, match=r"does not allow it to this client.*in the cluster's ACLs"):
                await client.submit(kill(Filter(service="S"), request_id="r1"))

    async def submitted() -> Progress:
        async with secured.client("operator") as client:
            return (await client.submit(kill(Filter(service="S"), request_id="r1"))).latest

    asyncio.run(looked())
    secured.allow("operator", "--operation", "Write", "--topic", "coordinator.requests")
    with (
        closing(KafkaLog(secured.settings("coordinator"))) as log,
        closing(RequestsRole(log, tmp_path / "requests.sqlite", wall_clock_us)),
    ):
        assert asyncio.run(submitted()).state == "accepted"


def test_the_python_client_says_that_its_password_is_refused(secured: Secured) -> None:
    async def looked() -> None:
        async with secured.client("operator", "wrong") as client:
            await client.batch("nobody")

    with pytest.raises(UnauthorizedError, match="refuses the credentials"):
        asyncio.run(looked())


def test_a_log_that_may_not_be_used_says_so(secured: Secured) -> None:
    with pytest.raises(LogError, match=r"does not allow it to this client.*grant it in the cluster's ACLs"):
        KafkaLog(secured.settings("reader"))


def test_a_wrong_password_is_said(secured: Secured) -> None:
    with pytest.raises(LogError, match="refuses the credentials"):
        KafkaLog(secured.settings("coordinator", "guessed"))


def test_a_certificate_that_is_not_trusted_is_said(secured: Secured, tmp_path: Path) -> None:
    trusted = tmp_path / "other-ca.pem"
    trustme.CA().cert_pem.write_to_path(trusted)
    settings = secured.settings("coordinator")
    with pytest.raises(LogError, match=r"look at ssl\.truststore\.location"):
        KafkaLog(KafkaSettings(settings.bootstrap, {**settings.properties, "ssl.truststore.location": str(trusted)}))
