"""A JSON Schema for each message, of its JSON rendering: what a plain msgpack decoder makes of the bytes.

msgspec writes the schemas of the types; added here are the meanings (`docstrings`), the values that are
allowed (`vocabulary`), and what JSON has not got: bytes are `{"$bytes": base64}`, and the integer keys of a map are
strings of digits. `x-msgpack` says what stands on the wire in their place.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from coordinator.contract import docstrings, streams, vocabulary
from coordinator.model import limits

Schema = dict[str, Any]
Struct = type[msgspec.Struct]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REF: Final = "#/$defs/{name}"
_BYTES: Final = {
    "x-msgpack": "bin",
    "type": "object",
    "properties": {"$bytes": {"type": "string", "contentEncoding": "base64"}},
    "required": ["$bytes"],
    "additionalProperties": False,
}


def message_schema(kind: streams.Kind) -> Schema:
    """The schema of one message, with all that it refers to."""
    known = {struct.__name__: struct for struct in structs(kind)}
    _, components = msgspec.json.schema_components((kind,), ref_template=_REF)
    defs = {name: _refined(known[name], schema) for name, schema in sorted(components.items())}
    own = defs.pop(kind.__name__)
    own["properties"] |= {
        "kind": {"const": streams.number(kind), "description": "Says which message this is."},
        "v": own["properties"]["v"] | {"minimum": 1, "maximum": limits.SCHEMA_LEVEL},
    }
    own["required"] = ["kind", "v", *(name for name in own["required"] if name not in ("kind", "v"))]
    return {"$schema": DIALECT, **own, **({"$defs": defs} if defs else {})}


def struct_schema(struct: Struct) -> Schema:
    """The schema of a struct by itself, message or not."""
    _, components = msgspec.json.schema_components((struct,), ref_template=_REF)
    return _refined(struct, components[struct.__name__])


def structs(root: Struct) -> list[Struct]:
    """The struct and those in its fields, each once."""
    found = [root]
    for struct in found:
        for field in msgspec.structs.fields(struct):
            found += [inner for inner in _inside(msgspec.inspect.type_info(field.type)) if inner not in found]
    return found


def _inside(type: msgspec.inspect.Type) -> Iterator[Struct]:
    type = _bare(type)
    if isinstance(type, msgspec.inspect.StructType):
        yield type.cls
    elif isinstance(type, msgspec.inspect.UnionType):
        for one in type.types:
            yield from _inside(one)
    elif isinstance(type, msgspec.inspect.CollectionType | msgspec.inspect.VarTupleType):
        yield from _inside(type.item_type)
    elif isinstance(type, msgspec.inspect.DictType):
        yield from _inside(type.value_type)


# -- one struct ----------------------------------------------------------------------------------------------


def _refined(struct: Struct, schema: Schema) -> Schema:
    """The schema of one struct as msgspec gives it, with what we know beyond that."""
    meanings = docstrings.field_meanings(struct)
    types = {field.name: msgspec.inspect.type_info(field.type) for field in msgspec.structs.fields(struct)}
    properties: Schema = {}
    for name, generated in schema["properties"].items():
        described = {"description": meanings[name]} if name in meanings else {}
        refined = generated if name == "kind" else _field(generated, types[name], vocabulary.rule(struct, name))
        properties[name] = described | refined
    return {**schema, "description": docstrings.meaning(struct), "properties": properties}


def _field(schema: Schema, type: msgspec.inspect.Type, rule: vocabulary.Keywords) -> Schema:
    type = _bare(type)
    if "anyOf" in schema:
        assert isinstance(type, msgspec.inspect.UnionType)
        options = zip(schema["anyOf"], _nil_last(type), strict=True)
        return {**schema, "anyOf": [_field(one, of, rule) for one, of in options]}
    if schema.get("type") == "null":
        return schema
    if schema.get("contentEncoding") == "base64":
        return dict(_BYTES)
    if isinstance(type, msgspec.inspect.DictType) and isinstance(type.key_type, msgspec.inspect.IntType):
        schema = {**schema, "propertyNames": {"pattern": "^-?[0-9]+$"}, "x-msgpack": "map with integer keys"}
    if isinstance(type, msgspec.inspect.DictType):
        schema = {**schema, "additionalProperties": _field(schema["additionalProperties"], type.value_type, {})}
    if schema.get("type") == "integer":
        schema = {**schema, "format": "int64"}
    merged = {**schema, **rule}
    if "items" in rule:
        merged["items"] = {**schema["items"], **rule["items"]}
    return merged


def _bare(type: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The type without what an annotation adds to it."""
    return _bare(type.type) if isinstance(type, msgspec.inspect.Metadata) else type


def _nil_last(union: msgspec.inspect.UnionType) -> list[msgspec.inspect.Type]:
    """The types of a union in the order in which msgspec writes their schemas."""
    return sorted(union.types, key=lambda one: isinstance(one, msgspec.inspect.NoneType))
