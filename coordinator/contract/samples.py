"""One message of each kind with its required fields, one with all fields, and those of the worked example.

Values are chosen by the name of a field, else by its type, so that a new field needs nothing here. A full
sample sets fields that never go together; it is there for codecs, not for the machines.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from coordinator.contract import streams
from coordinator.model import ids, limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Guard, Progress, RequestState, Submit, Tally

PLAIN_ID: Final = ids.derived_id("contract", 1, None)
KEYED_ID: Final = ids.derived_id("contract", 2, "Zoë")
NOON_US: Final = 1_795_262_400 * limits.SECOND_US
"""2026-11-21T12:00:00Z."""

_TALLY: Final = Tally(
    matched=28, ended=7, applied=6, signalled=5, ended_by_other=4, already_signalled=3, not_applicable=2, failed=1
)

VALUES: Final[dict[str, Any]] = {
    "id": PLAIN_ID,
    "parent": PLAIN_ID,
    "child": KEYED_ID,
    "children": (KEYED_ID, PLAIN_ID),
    "ids": (PLAIN_ID, KEYED_ID),
    "service": "Greeter",
    "handler": "greet",
    "key": "Zoë",
    "type": 1,
    "deployment": "dp_2026_11_21",
    "target": "Greeter/Zoë/greet",
    "idempotency_key": "order-4711",
    "Invoke.id": KEYED_ID,
    "Import.id": KEYED_ID,
    "Import.status": "completed",
    "Filter.status": ("running", "backing-off"),
    "outcome": "cancelled",
    "state": "running",
    "action": "cancel",
    "request": "bad-deploy-1",
    "reason": "bad deploy – see incident 4711",
    "principal": "zoë@example.com",
    "headers": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    "failure": "TerminalError: no such user",
    "last_failure": "ConnectError: refused",
    "input": b'{"name":"Zo\xc3\xab"}',
    "output": b"\x00\xff",
    "guard": Guard(max=100),
    "tally": _TALLY,
    "level": limits.SCHEMA_LEVEL,
    "sent": {0: 2, 3: 1},
    "received": {1: 1, 200: 3},
    "cursor_ppm": 250_000,
    "retention": 3_600 * limits.SECOND_US,
    "at": NOON_US,
    "not_after": NOON_US + limits.NOT_AFTER_US,
    "retry_at": NOON_US + limits.SECOND_US,
    "due_at": NOON_US + limits.HOUR_US,
    "committed_at": 1_210,
    "position": 1_207,
    "partition": 2,
    "source": 3,
}
"""Field → value; `Struct.field` goes before `field`. Times without an entry get one by their name."""

EXAMPLES: Final = (
    Submit(
        request="bad-deploy-1",
        action="kill",
        filter=Filter(service="Greeter", status=("suspended",)),
        reason="bad deploy",
    ),
    Progress(
        request="bad-deploy-1",
        partition=2,
        number=41,
        state="completed",
        position=1_207,
        revision=0,
        at=NOON_US + limits.SECOND_US,
        tally=Tally(matched=3, ended=3),
        cursor_ppm=1_000_000,
    ),
    RequestState(
        request="bad-deploy-1",
        number=3,
        state="completed",
        at=NOON_US + 2 * limits.SECOND_US,
        tally=Tally(matched=11, ended=11),
        settled=True,
    ),
)
"""The worked example of schemas/README.md, in the order in which it happens."""


def samples() -> Iterator[tuple[str, msgspec.Struct]]:
    """Name of the case, such as `Submit-full`, and its message."""
    for kind in streams.KINDS:
        yield f"{kind.__name__}-minimal", minimal(kind)
        yield f"{kind.__name__}-full", full(kind)
    for message in EXAMPLES:
        yield f"{type(message).__name__}-example", message


def minimal(struct: type[msgspec.Struct]) -> msgspec.Struct:
    """With the fields only that have no default."""
    required = (field for field in msgspec.structs.fields(struct) if field.required)
    return struct(**{field.name: _value(struct, field) for field in required})


def full(struct: type[msgspec.Struct]) -> msgspec.Struct:
    """With every field, none at its default."""
    fields = (field for field in msgspec.structs.fields(struct) if field.name != "v")
    return struct(**{field.name: _value(struct, field) for field in fields})


def _value(struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Any:
    for name in (f"{struct.__name__}.{field.name}", field.name):
        if name in VALUES:
            return VALUES[name]
    if field.type is bool or field.default is True or field.default is False:
        return field.default is not True
    return _of_type(field.name, msgspec.inspect.type_info(field.type))


def _of_type(name: str, type: msgspec.inspect.Type) -> Any:
    match type:
        case msgspec.inspect.Metadata():
            return _of_type(name, type.type)
        case msgspec.inspect.UnionType():
            return _of_type(name, next(one for one in type.types if not isinstance(one, msgspec.inspect.NoneType)))
        case msgspec.inspect.LiteralType():
            return type.values[-1]  # the first is likely the default
        case msgspec.inspect.EnumType():
            return list(type.cls)[-1]
        case msgspec.inspect.StructType():
            return full(type.cls)
        case msgspec.inspect.CollectionType() | msgspec.inspect.VarTupleType():
            return (_of_type(name, type.item_type),)
        case msgspec.inspect.DictType():
            return {_of_type(name, type.key_type): _of_type(name, type.value_type)}
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.IntType():
            return NOON_US if name.endswith(("_at", "_before", "_after")) else 300 + len(name)
        case msgspec.inspect.BytesType():
            return b"\x00\x01\xfe\xff"
        case msgspec.inspect.StrType():
            return name
        case _:
            raise NotImplementedError(f"no sample for {name}: {type}; name one in VALUES of {__name__}")
