"""Decoders are made when modules are imported, by one thread, and not where they are used, by several.

msgspec describes a type to itself when it is first decoded, and shares that description while it is still being made.
A second thread that decodes the same type just then follows a null pointer, and the process is gone. Owners of
partitions are threads, and begin at the same time.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "coordinator"
THREADED = ("http", "logs", "model", "partition", "requests", "runtime", "stores")
"""What has no threads (the command line, the demo) or learns its types late (participants) may do otherwise."""


@pytest.mark.parametrize("package", THREADED)
def test_no_decoder_is_made_inside_of_a_function(package: str) -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.joinpath(package).rglob("*.py")
        for line in made_late(path.read_text(encoding="utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    "late",
    [
        "def f(data):\n    return msgspec.msgpack.decode(data, type=State)",
        "class C:\n    def f(self, data):\n        return msgspec.json.decode(data, type=list[State])",
        "def f(data):\n    return msgspec.msgpack.Decoder(State).decode(data)",
        "f = lambda data: msgspec.msgpack.decode(data, type=State)",
    ],
)
def test_such_a_place_is_found(late: str) -> None:
    assert len(made_late(late)) == 1


def test_what_needs_no_type_and_what_is_made_at_import_is_not_found() -> None:
    assert not made_late("decode = msgspec.msgpack.Decoder(State).decode\n\ndef f(data):\n    return decode(data)")
    assert not made_late("def f(data):\n    return msgspec.msgpack.decode(data)")


def made_late(source: str) -> set[int]:
    """The lines on which a decoder of a type is made inside of a function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    calls = (
        node
        for function in ast.walk(ast.parse(source))
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    )
    return {
        call.lineno
        for call in calls
        if ast.unparse(call.func).startswith("msgspec.")
        and (call.func.attr == "Decoder" or (call.func.attr == "decode" and call.keywords))
    }
