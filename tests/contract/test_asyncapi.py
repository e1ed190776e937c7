"""The AsyncAPI document hangs together: each reference leads somewhere, each message is sent and explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from coordinator.contract import asyncapi, prose, streams
from coordinator.logs.port import Stream
from coordinator.model import limits
from coordinator.model.messages import Tally
from tests.contract.goldens import SCHEMAS, golden_json


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def test_the_yaml_is_the_document(document: Any) -> None:
    assert document == asyncapi.document()
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["version"] == str(limits.SCHEMA_LEVEL)
    assert document["defaultContentType"] == "application/msgpack"


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        if reference.startswith("./"):
            assert (SCHEMAS / reference).is_file(), reference
            continue
        node = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]


def test_the_channels_are_the_streams(document: Any) -> None:
    assert [channel["title"] for channel in document["channels"].values()] == [str(stream) for stream in Stream]
    for channel in document["channels"].values():
        assert channel["address"] == "{prefix}" + channel["title"]
        settings = channel["bindings"]["kafka"]["topicConfiguration"]
        assert settings["message.timestamp.type"] == "LogAppendTime"
        assert settings["cleanup.policy"] == ["delete"]
        assert settings["retention.ms"] == -1


def test_every_message_is_on_a_channel_and_in_an_operation_of_it(document: Any) -> None:
    names = [kind.__name__ for kind in streams.KINDS]
    on_channels = [name for channel in document["channels"].values() for name in channel["messages"]]
    assert on_channels == names
    assert list(document["components"]["messages"]) == names
    in_operations: set[str] = set()
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
            in_operations.add(message["$ref"].rpartition("/")[2])
        assert operation["x-writers"]
        assert operation["x-readers"]
    assert in_operations == set(names)


def test_anyone_may_submit_and_follow_and_only_the_coordinator_sends_batches(document: Any) -> None:
    operations = document["operations"]
    assert operations["submitRequests"]["action"] == "receive"
    assert operations["submitRequests"]["x-writers"] == "anyone"
    assert "anyone" in operations["followProgress"]["x-readers"]
    assert operations["commandBatches"]["x-writers"] == "the coordinator"


@pytest.mark.parametrize("kind", streams.KINDS, ids=lambda kind: kind.__name__)
def test_a_message_has_its_number_its_schema_and_an_example(kind: streams.Kind, document: Any) -> None:
    message = document["components"]["messages"][kind.__name__]
    assert message["x-kind"] == streams.number(kind)
    assert message["payload"] == {"$ref": f"./json/{kind.__name__}.json"}
    assert message["contentType"] == "application/msgpack"
    assert message["examples"][0]["payload"] == golden_json(f"{kind.__name__}-minimal")


def test_the_rules_that_no_schema_can_state_are_stated(document: Any) -> None:
    said = document["info"]["description"]
    for title, text in prose.SECTIONS:
        assert f"## {title}\n\n{text}" in said
    assert "matched = " + " + ".join(Tally.COUNTED) in said
    assert "partition_key * P >> 64" in said


def test_a_message_without_writers_stops_the_generator() -> None:
    class Unplaced(streams.Message, tag=95):
        pass

    with pytest.raises(LookupError, match="say who writes"):
        streams.writers(Unplaced)
