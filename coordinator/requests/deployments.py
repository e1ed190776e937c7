"""The registry of deployments: which code there is, in the order in which it was registered.

A deployment is one version of some code: an id and the services that it has. It never changes. To register the
same again is no change; other services under its id are a conflict, and the first stays. A service belongs to the
latest deployment that has it: new invocations start there, while those that have started keep theirs.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from coordinator.model import limits
from coordinator.model.errors import CallerError, NotFoundError
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import Register, ServiceSpec


class Deployment(msgspec.Struct, frozen=True):
    """One that was registered."""

    number: int
    """Its place in the order, from 1."""
    id: str
    services: tuple[ServiceSpec, ...]
    registered_at: int
    """Microseconds since the epoch, by the log."""


class Located(NamedTuple):
    """A service where new invocations of it go."""

    deployment: Deployment
    service: ServiceSpec


class Terms(NamedTuple):
    """What an invocation has from its service."""

    type: ServiceType
    shared: bool
    retention: int
    """Microseconds that it is kept after its end."""


class Registry:
    """All deployments at one position of the log. Never changes: `with_registered` makes another."""

    def __init__(self, deployments: Iterable[Deployment] = ()) -> None:
        ordered = sorted(deployments, key=lambda deployment: deployment.number)
        self.deployments: Final = tuple(ordered)
        """In order of registration."""
        self._by_id: Final = {deployment.id: deployment for deployment in ordered}
        self.latest: Final[Mapping[str, Located]] = {
            service.name: Located(deployment, service) for deployment in ordered for service in deployment.services
        }
        """Service → the latest deployment that has it."""

    def get(self, deployment: str) -> Deployment | None:
        """The deployment of that id."""
        return self._by_id.get(deployment)

    def check_named(self, deployment: str | None) -> None:
        """Raise CallerError when a deployment is named and there is none of that id."""
        if deployment is not None and deployment not in self._by_id:
            raise CallerError(
                f"deployment {deployment} is not registered; GET /deployments lists those that are", field="deployment"
            )

    def with_registered(self, event: Register, at_us: int) -> "Registry":
        """The registry once `event`, appended at `at_us`, is read; itself where that changes nothing.

        Raises CallerError when the registration cannot be meant so, or there is no room for it.
        """
        if event.deployment in self._by_id:
            return self
        check(event)
        if len(self.deployments) >= limits.DEPLOYMENTS_MAX:
            raise CallerError(
                f"{limits.DEPLOYMENTS_MAX} deployments are registered and no more go; give a deployment the id of its "
                "version, not of its process"
            )
        new = Deployment(len(self.deployments) + 1, event.deployment, event.services, at_us)
        return Registry((*self.deployments, new))

    def check_target(self, service: str, handler: str, key: str | None) -> None:
        """Raise unless the target can be meant, as far as its service is known.

        NotFoundError when the service has no such handler, CallerError when it is addressed wrongly.
        """
        located = self.latest.get(service)
        if located is None:
            return
        spec = located.service
        handlers = [known.name for known in spec.handlers]
        if handler not in handlers:
            raise NotFoundError(f"{service} has no handler {handler!r}; it has {', '.join(handlers)}")
        if spec.type == ServiceType.SERVICE and key is not None:
            raise CallerError(f"{service} is a service without keys; its target is {service}/{handler}", field="key")
        if spec.type != ServiceType.SERVICE and key is None:
            kind = "workflow" if spec.type == ServiceType.WORKFLOW else "virtual object"
            raise CallerError(f"{service} is a {kind}; its target is {service}/KEY/{handler}", field="key")

    def terms(self, service: str, handler: str, key: str | None, idempotency_key: str | None) -> Terms:
        """What an invocation of this target has from its service, or has where nobody knows its service.

        Where the target is addressed otherwise than its service is, the address counts.
        """
        located = self.latest.get(service)
        keyed = key is not None
        if located is None or (located.service.type != ServiceType.SERVICE) != keyed:
            unknown = ServiceType.VIRTUAL_OBJECT if keyed else ServiceType.SERVICE
            return Terms(unknown, False, limits.RETENTION_DEFAULT_US)
        spec = located.service
        type = ServiceType(spec.type)
        shared = keyed and any(known.name == handler and known.shared for known in spec.handlers)
        if type is ServiceType.WORKFLOW and not shared:
            return Terms(type, shared, spec.workflow_retention)
        return Terms(type, shared, spec.retention if idempotency_key is None else spec.idempotency_retention)


def check(event: Register) -> None:
    """Raise CallerError, naming the field, unless it can be registered."""
    _check_name(event.deployment, "id")
    if not 1 <= len(event.services) <= limits.SERVICES_MAX:
        raise CallerError(f"a deployment has 1 to {limits.SERVICES_MAX} services", field="services")
    if len({service.name for service in event.services}) < len(event.services):
        raise CallerError("two services have the same name; a deployment has each once", field="services")
    for service in event.services:
        _check_service(service)


def _check_service(service: ServiceSpec) -> None:
    _check_name(service.name, "services.name")
    if service.type not in frozenset(ServiceType):
        message = f"service {service.name} has type {service.type}; 0 is a service, 1 a virtual object, 2 a workflow"
        raise CallerError(message, field="services.type")
    if not 1 <= len(service.handlers) <= limits.HANDLERS_MAX:
        message = f"service {service.name} must have 1 to {limits.HANDLERS_MAX} handlers"
        raise CallerError(message, field="services.handlers")
    if len({handler.name for handler in service.handlers}) < len(service.handlers):
        message = f"two handlers of service {service.name} have the same name"
        raise CallerError(message, field="services.handlers")
    for handler in service.handlers:
        _check_name(handler.name, "services.handlers.name")
        if handler.shared and service.type == ServiceType.SERVICE:
            message = f"{service.name}/{handler.name} is shared, and only handlers of keyed services can be"
            raise CallerError(message, field="services.handlers.shared")
    for name in ("retention", "idempotency_retention", "workflow_retention"):
        if not 0 <= getattr(service, name) < limits.RETENTION_MAX_US:
            message = f"{name} of service {service.name} must be less than a thousand years, and not negative"
            raise CallerError(message, field=f"services.{name}")


def _check_name(name: str, field: str) -> None:
    if not 1 <= len(name) <= limits.NAME_CHARS_MAX or "\0" in name:
        raise CallerError(f"{field} must have 1 to {limits.NAME_CHARS_MAX} characters and no NUL", field=field)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Deployment)


def encode(deployment: Deployment) -> bytes:
    """The deployment as it is stored."""
    return _encoder.encode(deployment)


def decode(blob: bytes) -> Deployment:
    """The opposite of `encode`. Raises msgspec.DecodeError."""
    return _decoder.decode(blob)
