"""The JSON Schemas: they hold for what is sent, refuse what is not meant, and say what the types say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from coordinator.contract import docstrings, json_schema, reference, streams, vocabulary
from coordinator.contract.json_schema import Struct
from coordinator.model import limits
from coordinator.model.messages import Progress, Steps, Submit
from tests.contract.goldens import CASES, SCHEMAS, golden_json, kind_of

NAMES = [kind.__name__ for kind in streams.KINDS]


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / "json" / f"{name}.json").read_text(encoding="utf-8"))


def accepts(name: str, value: Any) -> bool:
    return bool(Draft202012Validator(schema(name)).is_valid(value))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_json_schema(name: str) -> None:
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("case", CASES)
def test_golden_messages_are_valid(case: str) -> None:
    Draft202012Validator(schema(kind_of(case))).validate(golden_json(case))


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("-minimal")])
def test_no_message_is_valid_as_another(case: str) -> None:
    assert [name for name in NAMES if accepts(name, golden_json(case))] == [kind_of(case)]


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("-minimal")])
def test_each_required_field_is_missed_and_no_other_is_let_in(case: str) -> None:
    minimal = golden_json(case)
    for name in minimal:
        assert not accepts(kind_of(case), {key: value for key, value in minimal.items() if key != name}), name
    assert not accepts(kind_of(case), minimal | {"misspelt": 1})
    assert not accepts(kind_of(case), minimal | {"v": limits.SCHEMA_LEVEL + 1})


@pytest.mark.parametrize(
    "change",
    [
        {"action": "destroy"},
        {"request": ""},
        {"request": "r" * (limits.NAME_CHARS_MAX + 1)},
        {"filter": {"status": []}},
        {"filter": {"status": ["backing off"]}},
        {"filter": {"created_before": "2h"}},
        {"filter": {"ids": ["x"] * (limits.FILTER_IDS_MAX + 1)}},
        {"guard": {"max": -1}},
        {"rate": 1.5},
        {"body_digest": "AAEC"},
        {"body_digest": {"$bytes": "AAEC", "more": 1}},
    ],
    ids=str,
)
def test_a_submission_that_would_be_refused_is_found_before_it_is_sent(change: dict[str, Any]) -> None:
    assert accepts("Submit", golden_json("Submit-example"))
    assert not accepts("Submit", golden_json("Submit-example") | change)


def test_maps_with_integer_keys_have_digits_for_keys() -> None:
    full = golden_json("Progress-full")
    assert accepts("Progress", full | {"sent": {"255": 1}})
    assert not accepts("Progress", full | {"sent": {"two": 1}})
    assert schema("Progress")["properties"]["sent"]["x-msgpack"] == "map with integer keys"


def test_bytes_say_what_they_are_on_the_wire() -> None:
    assert schema("DeadLetter")["properties"]["value"]["x-msgpack"] == "bin"
    assert "x-msgpack" not in schema("DeadLetter")["properties"]["reason"]


def test_descriptions_are_the_docstrings_of_the_types() -> None:
    submit = schema("Submit")
    assert submit["description"] == docstrings.meaning(Submit)
    assert submit["properties"]["rate"]["description"] == "Matches a second over the whole request at most."
    number = schema("Steps")["properties"]["number"]["description"]
    assert number == "The sender's number for this destination, dense from 1.", "inherited fields have theirs"
    assert set(docstrings.field_meanings(Steps)) == {"v", "source", "number", "first"}
    assert "position" in docstrings.field_meanings(Progress)


def test_defaults_are_named_and_not_required() -> None:
    submit = schema("Submit")
    assert submit["required"] == ["kind", "v", "request", "action", "filter"]
    assert submit["properties"]["principal"]["default"] == "anonymous"
    assert submit["properties"]["dry_run"]["default"] is False
    assert "default" not in submit["properties"]["request"]


def test_every_rule_of_the_vocabulary_is_for_a_field_that_exists() -> None:
    structs: list[Struct] = [*streams.KINDS, *reference.parts()]
    fields = {f"{struct.__name__}.{field}" for struct in structs for field in struct.__struct_fields__}
    fields |= {f"*.{field}" for struct in structs for field in struct.__struct_fields__}
    assert set(vocabulary.RULES) - fields == set()


def test_what_refers_to_another_schema_finds_it_in_the_same_file() -> None:
    assert set(schema("Submit")["$defs"]) == {"Filter", "Guard"}
    assert [struct.__name__ for struct in json_schema.structs(Steps)] == ["Steps", "Step", "Call"]
