"""The machines import no clock, no randomness, no I/O and no adapter, read from their source.

The import contracts in pyproject.toml list the packages that exist; this is an allow-list, so a package that
is added later is out of the machines' reach until it is named here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Package -> what of the project it may import, itself included.
MAY_IMPORT = {
    "coordinator.model": ("coordinator.model",),
    "coordinator.partition": ("coordinator.partition", "coordinator.model", "coordinator.stores.port"),
    "coordinator.requests": ("coordinator.requests", "coordinator.model", "coordinator.stores.port"),
}

IMPURE = {
    *("aiokafka", "apsw", "faust", "httpx", "litestar", "sqlite3", "structlog", "uvicorn"),
    *("asyncio", "os", "random", "secrets", "socket", "threading", "time", "uuid"),
}

# `datetime` is allowed as a type; asking it what time it is, is not.
CLOCK_CALLS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}


def test_the_packages_of_the_machines_exist() -> None:
    empty = [package for package in MAY_IMPORT if not sources_of(package)]
    assert empty == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_machine_imports_only_what_it_may(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{violation}"
        for path in sources_of(package)
        for violation in violations(path.read_text(encoding="utf-8"), module_of(path), package)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path as p",
        "from random import Random",
        "def late():\n    import asyncio",
        "import coordinator.logs.port",
        "from coordinator import runtime",
        "from coordinator.stores import sqlite",
        "from coordinator.stores.memory import MemoryStore",
        "from coordinator.requests import fold",
        "from coordinator.stores.portable import thing",
        "from ..logs import port",
        "from .. import requests",
        "from datetime import datetime\nnow = datetime.now()",
        "import datetime\ntoday = datetime.date.today()",
    ],
)
def test_an_impure_import_is_found(source: str) -> None:
    assert len(violations(source, "coordinator.partition.apply", "coordinator.partition")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\nepoch = datetime.fromtimestamp(0, UTC)",
        "from coordinator.model import limits",
        "from coordinator.stores.port import Transaction",
        "from coordinator.stores import port",
        "from . import ticks",
        "from .ticks import drain",
        "from ..model.ids import InvocationId",
        "import timeit_like_name",
    ],
)
def test_a_pure_import_passes(source: str) -> None:
    assert violations(source, "coordinator.partition.apply", "coordinator.partition") == []


def sources_of(package: str) -> list[Path]:
    return sorted(ROOT.joinpath(*package.split(".")).rglob("*.py"))


def module_of(path: Path) -> str:
    """Dotted name of a file; a package's ends in `__init__`, so that relative imports resolve alike."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def violations(source: str, module: str, package: str) -> list[str]:
    """`line: what` for each import, or question to the clock, that `package` may not hold."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [
                f"{node.lineno}: imports {name}"
                for name in imported(node, module)
                if not allowed(name, MAY_IMPORT[package])
            ]
        elif isinstance(node, ast.Call) and asks_the_clock(node.func):
            found.append(f"{node.lineno}: calls {ast.unparse(node.func)}()")
    return found


def imported(node: ast.Import | ast.ImportFrom, module: str) -> list[str]:
    """Absolute names; `from a import b` is `a.b`, for b may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = module.split(".")[: -node.level] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def allowed(name: str, may_import: tuple[str, ...]) -> bool:
    top = name.partition(".")[0]
    if top != "coordinator":
        return top not in IMPURE
    return any(name == root or name.startswith(f"{root}.") for root in may_import)


def asks_the_clock(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return False
    owner = ast.unparse(function.value).rpartition(".")[2]
    return (owner, function.attr) in CLOCK_CALLS
