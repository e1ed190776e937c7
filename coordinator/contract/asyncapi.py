"""The AsyncAPI document: channels, messages, and who may write and read which of them."""

from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # ships no types; a development dependency, as all of this is

from coordinator.contract import docstrings, golden, prose, samples, streams
from coordinator.logs.port import Stream
from coordinator.model import limits, messages

Node = dict[str, Any]

CONTENT_TYPE: Final = "application/msgpack"
_BINDING: Final = "0.5.0"
_KEYED: Final = (Stream.REQUESTS, Stream.PROGRESS)

_INTRODUCTION: Final = """\
The streams of the coordinator, on Kafka topics. Anyone may write to `requests` and read `progress` with
this document, the JSON Schemas in `json/` and the bytes in `golden/` alone; README.md shows how.

Operations are told from the system's side: it receives what others write and sends what others read, or what
its own parts tell each other. `x-writers` and `x-readers` say who that is."""


def document() -> Node:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Coordinator",
            "version": str(limits.SCHEMA_LEVEL),
            "description": f"{_INTRODUCTION}\n\n{prose.sections(2)}\n",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {_camel(channel.stream): _channel(channel) for channel in streams.CHANNELS},
        "operations": {operation.name: _operation(operation) for operation in streams.OPERATIONS},
        "components": {
            "messages": {kind.__name__: _message(kind, channel) for channel, kind in _kinds()},
        },
    }


def text() -> str:
    """The document as YAML, ready to be written."""
    return str(
        yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
    )


# -- parts ---------------------------------------------------------------------------------------------------


def _channel(channel: streams.Channel) -> Node:
    return {
        "address": f"{{prefix}}{channel.stream}",
        "title": str(channel.stream),
        "summary": channel.summary,
        "description": f"Partitions: {channel.partitions}\n\nKey: {channel.key}\n",
        "parameters": {"prefix": {"description": "What the topics' names begin with.", "default": ""}},
        "messages": {kind.__name__: _ref("components", "messages", kind.__name__) for kind in channel.kinds},
        "bindings": {
            "kafka": {
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": -1,
                    "max.message.bytes": limits.LOG_VALUE_BYTES_MAX,
                    "message.timestamp.type": "LogAppendTime",
                },
                "bindingVersion": _BINDING,
            }
        },
        "x-record-bytes-max": channel.record_bytes_max,
    }


def _operation(operation: streams.Operation) -> Node:
    channel = _camel(operation.stream)
    return {
        "action": "receive" if operation.receives else "send",
        "channel": _ref("channels", channel),
        "summary": operation.summary,
        "messages": [_ref("channels", channel, "messages", kind.__name__) for kind in operation.kinds],
        "x-writers": operation.writers,
        "x-readers": operation.readers,
    }


def _message(kind: streams.Kind, channel: streams.Channel) -> Node:
    name = kind.__name__
    bindings: Node = {"bindingVersion": _BINDING}
    if channel.stream in _KEYED:
        bindings = {"key": {"type": "string", "description": "The request id."}, **bindings}
    return {
        "name": name,
        "title": f"{name} ({streams.number(kind)})",
        "summary": docstrings.summary(kind),
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"./json/{name}.json"},
        "bindings": {"kafka": bindings},
        "examples": [{"name": "minimal", "payload": golden.rendered(messages.encode(samples.minimal(kind)))}],
        "x-kind": streams.number(kind),
        "x-writers": streams.writers(kind),
    }


def _kinds() -> list[tuple[streams.Channel, streams.Kind]]:
    return [(channel, kind) for channel in streams.CHANNELS for kind in channel.kinds]


def _camel(stream: Stream) -> str:
    first, *others = stream.split("-")
    return first + "".join(word.capitalize() for word in others)


def _ref(*path: str) -> Node:
    return {"$ref": "#/" + "/".join(path)}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # its base is untyped
    """Lists indented below their keys, text of several lines as it is, nothing by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent(dumper: _Dumper, data: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _represent)
