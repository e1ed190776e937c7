"""The OpenAPI document, made from the operations that the routes carry.

Nothing here is about a single route: what is registered is in the document, and what is not, is not.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from litestar.routes import BaseRoute, HTTPRoute

import coordinator
from coordinator.http import problems
from coordinator.http.contract import OPERATIONS, Body, Operation, Parameter, Success
from coordinator.http.edge import SAFE
from coordinator.http.problems import Problem

_REF: Final = "#/components/schemas/{name}"
_TYPED: Final = re.compile(r"\{(\w+):\w+\}")
_NAMED: Final = re.compile(r"\{(\w+)\}")
_IN_PATH: Final = {
    "id": "The id; of an invocation inv_1 and 33 letters or digits, of a batch what it was submitted with",
    "service": "The name of the service",
    "key": "The key; a slash in it is written %2F",
    "handler": "The name of the handler",
}
_ANSWER_HEADERS: Final = {
    "Link": 'Where the next page is, with rel="next"; absent on the last one and without a limit',
    "Location": "Path of what was made",
    "Retry-After": "Seconds after which to try again",
}
_SHOWN_AS: Final = {
    "InvocationView": "Invocation",
    "BatchView": "Batch",
    "coordinator.requests.view.PartitionView": "BatchPartition",
    "coordinator.runtime.views.PartitionView": "Partition",
    "PendingBatchView": "PendingBatch",
    "BatchBody": "BatchRequest",
    "FilterBody": "Filter",
    "GuardBody": "Guard",
    "RateBody": "BatchChange",
    "DeploymentBody": "DeploymentRequest",
    "DeploymentView": "Deployment",
    "ServiceBody": "Service",
    "HandlerBody": "Handler",
    "SessionBody": "SessionRequest",
    "SessionView": "Session",
}
"""Names of our types → what a client generated from the document calls them."""
_TAGS: Final = {
    "/invocations": "invocations",
    "/services": "invocations",
    "/import": "invocations",
    "/batches": "batches",
    "/deployments": "participants",
    "/sessions": "participants",
}


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    operations = list(_operations(routes))
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in sorted(operations, key=lambda found: found[0]):
        paths.setdefault(path, {})[method.lower()] = _described(path, method, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "coordinator",
            "version": coordinator.__version__,
            "description": "Invocations, and batches that act on all that a filter matches.",
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


def _operations(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, Operation]]:
    """(path, method, operation) of every route."""
    for route in routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            for operation in handler.opt.get(OPERATIONS, ()):
                for method in handler.http_methods:
                    yield operation.path or _TYPED.sub(r"{\1}", route.path), method, operation


class _Schemas:
    """The JSON Schemas of all types that any operation names."""

    def __init__(self, operations: Iterable[tuple[str, str, Operation]]) -> None:
        types: list[Any] = [Problem]
        for _, _, operation in operations:
            types += [parameter.type for parameter in operation.parameters]
            types += [part.type for part in (operation.body, *operation.answers.values()) if part is not None]
        found, components = msgspec.json.schema_components(types, ref_template=_REF)
        self.components: dict[str, Any] = {_SHOWN_AS.get(name, name): _renamed(components[name]) for name in components}
        self._found = list(zip(types, map(_renamed, found), strict=True))

    def of(self, type: Any) -> dict[str, Any]:
        """The schema, or a reference to it."""
        return next(schema for known, schema in self._found if known is type or known == type)


def _renamed(schema: Any) -> Any:
    """The schema with references by the names that users know."""
    if isinstance(schema, dict):
        shown = {key: _renamed(value) for key, value in schema.items()}
        for key in ("$ref", "title"):
            if isinstance(name := shown.get(key), str):
                head, slash, last = name.rpartition("/")
                shown[key] = f"{head}{slash}{_SHOWN_AS.get(last, last)}"
        return shown
    return [_renamed(item) for item in schema] if isinstance(schema, list) else schema


def _described(path: str, method: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    tag = next((tag for prefix, tag in _TAGS.items() if path.startswith(prefix)), "system")
    shown: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary, "tags": [tag]}
    parameters = [_path_parameter(name) for name in _NAMED.findall(path)]
    parameters += [_parameter(parameter, schemas) for parameter in operation.parameters]
    if parameters:
        shown["parameters"] = parameters
    if operation.body is not None:
        shown["requestBody"] = _body(operation.body, schemas)
    shown["responses"] = {str(status): _success(answer, schemas) for status, answer in operation.answers.items()}
    everywhere = {500} if method in SAFE else {403, 500}
    shown["responses"] |= {
        str(status): _problem(status, schemas) for status in sorted({*operation.problems} | everywhere)
    }
    return shown


def _path_parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": _IN_PATH[name], "schema": schema}


def _parameter(parameter: Parameter, schemas: _Schemas) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "schema": schemas.of(parameter.type),
    }


def _body(body: Body, schemas: _Schemas) -> dict[str, Any]:
    # Without a schema any bytes will do, which is how OpenAPI 3.1 says binary.
    media = {} if body.type is None else {"schema": schemas.of(body.type)}
    return {"description": body.description, "required": body.required, "content": {body.media: media}}


def _success(answer: Success, schemas: _Schemas) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.description}
    if answer.media is not None:
        schema = {"type": "string"} if answer.type is None else schemas.of(answer.type)
        shown["content"] = {answer.media: {"schema": schema}}
    return shown | _headers(answer.headers)


def _problem(status: int, schemas: _Schemas) -> dict[str, Any]:
    shown = {"description": problems.KINDS[status][1], "content": {problems.MEDIA: {"schema": schemas.of(Problem)}}}
    return shown | _headers(("Retry-After",) if status in (429, 503) else ())


def _headers(names: Iterable[str]) -> dict[str, Any]:
    shown = {name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}} for name in names}
    return {"headers": shown} if shown else {}
