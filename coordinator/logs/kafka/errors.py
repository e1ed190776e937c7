"""What goes wrong with Kafka, in sentences that say what to do."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiokafka import errors

from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import LogError, LogUnreachableError

BEGIN_ANEW: Final = (
    "restore the topics that belong to the stores, or begin anew: delete all topics of the coordinator, make them with "
    "coordinator topics create, and start every process with an empty data directory"
)
"""What is left to do when the log is another one."""

_REFUSED: Final = (
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
)
_STRANGER: Final = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
)
_UNREACHABLE: Final = (errors.KafkaConnectionError, errors.NodeNotReadyError, errors.NoBrokersAvailable, OSError)
_SLOW: Final = (errors.KafkaTimeoutError, errors.RequestTimedOutError, TimeoutError)
_TOO_FEW: Final = (errors.NotEnoughReplicasError, errors.NotEnoughReplicasAfterAppendError)


@contextmanager
def errors_of(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Kafka's errors as LogError; `doing` is what was tried, such as `appending to requests/0`."""
    try:
        yield
    except (errors.KafkaError, OSError, TimeoutError) as error:
        raise as_log_error(settings, doing, error) from error


def as_log_error(settings: KafkaSettings, doing: str, error: BaseException) -> LogError:
    """The sentence for one error."""
    unreachable = isinstance(error, (*_SLOW, *_UNREACHABLE)) and not isinstance(error, ssl.SSLError)
    kind = LogUnreachableError if unreachable else LogError
    return kind(f"{doing} failed: {_sentence(settings, error)}")


def is_refusal(error: LogError) -> bool:
    """Whether it says that the brokers do not let this client do it, whoever it says it is."""
    return isinstance(error.__cause__, (*_REFUSED, *_STRANGER))


def _sentence(settings: KafkaSettings, error: BaseException) -> str:
    where = settings.bootstrap
    if isinstance(error, _REFUSED):
        return f"Kafka at {where} does not allow it to this client ({_text(error)}); grant it in the cluster's ACLs"
    if isinstance(error, _STRANGER):
        return f"Kafka at {where} refuses the credentials ({_text(error)}); look at sasl.mechanism and sasl.jaas.config"
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS with {where} cannot be set up ({_text(error)}); look at ssl.truststore.location and the certificate"
        )
    if isinstance(error, _SLOW):
        return f"Kafka at {where} has not answered in time; look at the brokers if this goes on"
    if isinstance(error, _UNREACHABLE):
        return f"no broker answers at {where} ({_text(error)}); look at the address and the brokers"
    if isinstance(error, _TOO_FEW):
        return f"fewer replicas are in sync at {where} than min.insync.replicas asks for; bring the brokers back"
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return f"the topic is not there at {where}; make it with: coordinator topics create"
    return f"Kafka at {where} says {_text(error)}"


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
