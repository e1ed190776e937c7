"""What the types say about themselves: docstrings of classes, and of fields, the strings below them.

Python forgets the latter, so they are read from the source, inherited ones included.
"""

import ast
import inspect
import sys
from functools import cache

import msgspec


def meaning(struct: type[msgspec.Struct]) -> str:
    """The docstring of a struct, without its indentation."""
    return inspect.cleandoc(struct.__doc__ or "")


def summary(struct: type[msgspec.Struct]) -> str:
    """The first paragraph of it, on one line."""
    return on_one_line(meaning(struct).partition("\n\n")[0])


def field_meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field → what stands below it, on one line, for those that have it."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        found |= _of_module(base.__module__).get(base.__qualname__, {})
    return found


def on_one_line(text: str) -> str:
    """The text with each run of white space made one space."""
    return " ".join(text.split())


@cache
def _of_module(module: str) -> dict[str, dict[str, str]]:
    if not module.startswith("coordinator."):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = on_one_line(below.value.value)
    return found
