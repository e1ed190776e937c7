"""A client of the application that holds every answer against the OpenAPI document.

So the document is true of whatever any test here has seen.
"""

import asyncio
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from litestar import Litestar

from coordinator.http.app import create_app
from coordinator.http.openapi import document
from coordinator.http.problems import MEDIA
from coordinator.http.reading import routable
from coordinator.model.errors import CallerError
from tests.http.stub import StubGateway


class Surface:
    def __init__(self, gateway: Any = None) -> None:
        self.gateway: Any = StubGateway() if gateway is None else gateway
        self.app: Litestar = create_app(self.gateway)
        self.document = document(self.app.routes)

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return asyncio.run(self.call(method, path, **request))

    async def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        async with self.client() as client:
            response = await client.request(method, path, **request)
        self.check(method, path, response)
        return response

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://coordinator")

    def check(self, method: str, path: str, response: httpx.Response) -> None:
        """Hold an answer against the document."""
        raw = response.request.url.raw_path.partition(b"?")[0]
        try:
            operation = self._operation(method, routable(raw).rstrip("/"))
        except CallerError:
            operation = None
        if operation is None:
            assert response.headers["content-type"] == MEDIA
            self._validate({"$ref": "#/components/schemas/Problem"}, response.json())
            return
        promised = operation["responses"].get(str(response.status_code))
        assert promised is not None, f"{method} {path} answered {response.status_code}, which is not in the document"
        if "content" not in promised:
            assert response.content == b""
            return
        [(media, content)] = promised["content"].items()
        assert media == "*/*" or response.headers["content-type"].split(";")[0] == media.split(";")[0]
        if media.endswith("json"):
            self._validate(content["schema"], response.json())

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template, operations in self.document["paths"].items():
            pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in template.split("/"))
            if re.fullmatch(pattern, path) and method.lower() in operations:
                return dict(operations[method.lower()])
        return None

    def _validate(self, schema: dict[str, Any], value: Any) -> None:
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)


def assert_problem(response: httpx.Response, status: int, *, field: str | None = None, says: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"].startswith("urn:coordinator:problem:")
    assert says in problem["detail"]
    assert problem.get("field") == field
