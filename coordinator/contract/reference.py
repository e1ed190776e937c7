"""docs/messages.md: the messages for people, a table for each stream and one of fields for each message."""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from coordinator.contract import docstrings, json_schema, prose, streams
from coordinator.contract.json_schema import Schema, Struct
from coordinator.logs.port import Stream
from coordinator.model import limits, messages

_WORDS: Final = {"string": "text", "integer": "integer", "boolean": "boolean", "null": "nil"}

_TOP: Final = f"""\
# Messages

Written by `make schemas` from the message types; edit those. For programs there are an AsyncAPI document, a JSON
Schema for each message and golden bytes in [schemas/](../schemas/README.md). This is schema level \
{limits.SCHEMA_LEVEL}.

Where a meaning says None, the field holds nil or is left out. Beside their own fields all messages have `kind` and
`v`, and all commands `source` and `number`.
"""


def text() -> str:
    """The whole page."""
    return "\n".join([_TOP, prose.sections(2), "", *_streams(), *_parts()]).rstrip() + "\n"


def _streams() -> Iterator[str]:
    for channel in streams.CHANNELS:
        yield f"## Stream `{channel.stream}`\n\n{channel.summary}\n"
        yield f"Partitions: {channel.partitions} Key: {channel.key[0].lower()}{channel.key[1:]}\n"
        yield "| kind | message | meaning | written by |\n|---|---|---|---|"
        for kind in channel.kinds:
            name, meaning = kind.__name__, docstrings.summary(kind)
            yield f"| {streams.number(kind)} | [{name}](#{name.lower()}) | {_cell(meaning)} | {streams.writers(kind)} |"
        yield ""
        if channel.stream == Stream.COMMANDS:
            yield "Fields of all commands:\n"
            yield from _fields(messages.Command, ("source", "number"))
        for kind in channel.kinds:
            yield from _struct(kind, f"Kind {streams.number(kind)}. ")


def _parts() -> Iterator[str]:
    """What stands inside of messages."""
    yield "## Parts of messages\n"
    for part in parts():
        yield from _struct(part, "")


def parts() -> list[Struct]:
    """The structs that are no messages, each once, in the order of their use."""
    found: dict[Struct, None] = {}
    for kind in streams.KINDS:
        found |= dict.fromkeys(json_schema.structs(kind)[1:])
    return list(found)


def _struct(struct: Struct, prefix: str) -> Iterator[str]:
    yield f"### {struct.__name__}\n\n{prefix}{docstrings.meaning(struct)}\n"
    shared = ("v", "source", "number") if issubclass(struct, messages.Command) else ("v",)
    yield from _fields(struct, [name for name in struct.__struct_fields__ if name not in shared])


def _fields(struct: Struct, names: Collection[str]) -> Iterator[str]:
    """A table of these fields; nothing where there are none."""
    if not names:
        return
    properties = json_schema.struct_schema(struct)["properties"]
    meanings = docstrings.field_meanings(struct)
    required = {field.name for field in msgspec.structs.fields(struct) if field.required}
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    for name in names:
        property = properties[name]
        default = "required" if name in required else f"`{_literal(property.get('default'))}`"
        yield f"| `{name}` | {_cell(_type(property))} | {default} | {_cell(meanings.get(name, ''))} |"
    yield ""


# -- a schema in words ---------------------------------------------------------------------------------------


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if schema.get("x-msgpack") == "bin":
        return "bytes"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return f"list{_bounds(schema, 'Items')} of {_type(schema['items'])}"
    if kind == "object":
        keys = "integer" if "x-msgpack" in schema else "text"
        return f"map of {keys} to {_type(schema['additionalProperties'])}"
    if schema.get("pattern", "").startswith("^inv_"):
        return "invocation id"
    return _WORDS[kind] + (_bounds(schema, "Length") if kind == "string" else _range(schema))


def _bounds(schema: Schema, of: str) -> str:
    if f"max{of}" not in schema:
        return ""
    return f" ({schema.get(f'min{of}', 0):,}–{schema[f'max{of}']:,})"


def _range(schema: Schema) -> str:
    low, high, above = schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMaximum")
    if high is None and above is not None:
        high = above - 1
    if low is None and high is None:
        return ""
    return f" from {low}" if high is None else f" up to {high}" if low is None else f" from {low} to {high}"


def _literal(value: Any) -> str:
    return "nil" if value is None else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
