"""Every route, parameter, field and problem is documented, and every documented route exists."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest

from coordinator.http import problems
from coordinator.http.app import create_app
from coordinator.http.openapi import document
from coordinator.model.statuses import ACTIONS
from coordinator.requests.lifecycle import State
from coordinator.runtime.gateway import Gateway
from tests.docs.pages import page, tables

HTTP = page("http.md")
OPENAPI: dict[str, Any] = document(create_app(cast(Gateway, None)).routes)
ROUTES = {
    f"{method.upper()} {path}": operation
    for path, item in OPENAPI["paths"].items()
    for method, operation in item.items()
}
SCHEMAS = OPENAPI["components"]["schemas"]
FIRST_TABLE = HTTP.partition("## What holds everywhere")[0]


def test_the_first_table_has_every_route_and_no_other() -> None:
    written = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`]*)`", FIRST_TABLE))
    assert written == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_the_parameters_of_a_route_are_documented(route: str) -> None:
    named = {one["name"] for one in ROUTES[route].get("parameters", ()) if one["in"] != "path"}
    text = HTTP.lower()
    assert {name for name in named if f"`{name.lower()}`" not in text and name.lower() != "content-encoding"} == set()


@pytest.mark.parametrize("route", ROUTES)
def test_the_problems_of_a_route_are_documented(route: str) -> None:
    codes = {cells[0] for cells in tables(HTTP)}
    assert {code for code in ROUTES[route]["responses"] if int(code) >= 400} <= codes


def test_every_kind_of_problem_is_in_the_table() -> None:
    rows = {cells[0]: cells[1].strip("`") for cells in tables(HTTP) if cells[0].isdigit()}
    for status, name in rows.items():
        assert problems.problem(int(status), "").type.endswith(f":{name}")
    assert {str(status) for status in problems.KINDS} <= set(rows)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_fields_of_what_is_sent_and_shown_are_documented(schema: str) -> None:
    fields = set(SCHEMAS[schema].get("properties", ()))
    words = set(re.findall(r"[\w-]+", HTTP))
    assert fields - words == set()


def test_every_state_of_a_batch_is_documented() -> None:
    written = {cells[0].strip("`") for cells in tables(HTTP)}
    assert {state.value for state in State} <= written


def test_every_action_is_documented() -> None:
    assert {action for action in ACTIONS if f"`{action}`" not in HTTP} == set()
