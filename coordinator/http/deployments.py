"""Routes of the registry of deployments."""

from typing import Annotated, Any, Final, Literal

import msgspec

from coordinator.http.contract import Body, Operation, Success, gateway_of, route
from coordinator.http.reading import AnyRequest, query, read_body
from coordinator.http.replies import Reply, json_reply
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.model.times import parse_duration, to_rfc3339
from coordinator.requests.body import decode
from coordinator.requests.deployments import Deployment

_TYPES: Final = {
    "service": ServiceType.SERVICE,
    "object": ServiceType.VIRTUAL_OBJECT,
    "workflow": ServiceType.WORKFLOW,
}
_TYPE_NAMES: Final = {int(type): name for name, type in _TYPES.items()}
_RETENTIONS: Final = ("retention", "idempotency_retention", "workflow_retention")

Name = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": limits.NAME_CHARS_MAX})]
TypeName = Literal["service", "object", "workflow"]
Duration = Annotated[str, msgspec.Meta(description="90s, 1h 30m, 7d, PT24H; a day without it")]


class HandlerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One handler of a service."""

    name: Name
    shared: bool = False


class ServiceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A service as a deployment has it."""

    name: Name
    type: TypeName
    handlers: list[HandlerBody]
    retention: Duration | None = None
    idempotency_retention: Duration | None = None
    workflow_retention: Duration | None = None


class DeploymentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment as it is registered."""

    id: Name
    services: list[ServiceBody]


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment as it is shown."""

    id: str
    registered_at: str
    services: list[ServiceBody]


_decode: Final = msgspec.json.Decoder(DeploymentBody)


@route(
    "POST",
    "/deployments",
    Operation(
        id="registerDeployment",
        summary="Make a deployment and its services known; new invocations of them go to it",
        body=Body("The deployment", DeploymentBody),
        answers={
            201: Success("It is registered", DeploymentView),
            200: Success("It was registered already, with the same services", DeploymentView),
        },
        problems=(400, 409, 413, 429, 503),
    ),
)
async def register_deployment(request: AnyRequest) -> Reply:
    """Register it, or find it registered."""
    query(request)
    body = decode(_decode, await read_body(request, limits.REQUEST_BYTES_MAX))
    services = tuple(_spec(service) for service in body.services)
    found, new = await gateway_of(request).register(Register(deployment=body.id, services=services))
    return json_reply(201 if new else 200, _view(found))


@route(
    "GET",
    "/deployments",
    Operation(
        id="listDeployments",
        summary="The deployments, the latest first; a service's new invocations go to the first that has it",
        answers={200: Success("All that were registered", list[DeploymentView])},
        problems=(400,),
    ),
)
async def list_deployments(request: AnyRequest) -> Reply:
    """All of them."""
    query(request)
    return json_reply(200, [_view(deployment) for deployment in gateway_of(request).deployments()])


def _spec(body: ServiceBody) -> ServiceSpec:
    given = {name: getattr(body, name) for name in _RETENTIONS}
    return ServiceSpec(
        name=body.name,
        type=int(_TYPES[body.type]),
        handlers=tuple(Handler(name=handler.name, shared=handler.shared) for handler in body.handlers),
        **{name: _duration_us(text, name) for name, text in given.items() if text is not None},
    )


def _duration_us(text: str, name: str) -> int:
    try:
        return parse_duration(text)
    except CallerError as error:
        raise CallerError(f"services.{name}: {error}", field=f"services.{name}") from None


def _view(deployment: Deployment) -> DeploymentView:
    return DeploymentView(
        id=deployment.id,
        registered_at=to_rfc3339(deployment.registered_at),
        services=[_service(spec) for spec in deployment.services],
    )


def _service(spec: ServiceSpec) -> ServiceBody:
    return ServiceBody(
        spec.name,
        _TYPE_NAMES[spec.type],  # type: ignore[arg-type] # the names of the types are the literal's
        [HandlerBody(handler.name, handler.shared) for handler in spec.handlers],
        *(_duration(getattr(spec, name)) for name in _RETENTIONS),
    )


def _duration(us: int) -> str:
    return f"{us // limits.SECOND_US}s" if us % limits.SECOND_US == 0 else f"{us}us"


ROUTES: Final[list[Any]] = [register_deployment, list_deployments]
