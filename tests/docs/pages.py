"""The pages of the documentation, and what tests read in them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PASSED_OVER = {".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "dist"}


@cache
def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the project: what git has, or, where this is no checkout, all but what tools leave behind."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not PASSED_OVER & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in paths if path.is_file())


def markdown() -> list[Path]:
    """Every page in Markdown, those outside of docs/ too, tracked or about to be."""
    written = {*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(path for path in tracked() if path.suffix == ".md")}
    return sorted(written)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def tables(text: str) -> Iterator[list[str]]:
    """The rows of all tables, as the texts of their cells; bars within code do not part cells."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `coordinator …` that a page's console blocks show, pipes and comments left out."""
    for block in blocks(text, "console"):
        for line in block.splitlines():
            shown = re.match(r"\$ (?:.*\| )?(coordinator .*)", line)
            if shown is not None:
                words = shlex.split(shown[1], comments=True)
                yield words[1 : words.index("|")] if "|" in words else words[1:]


@cache
def generator() -> ModuleType:
    """docs/generate.py, which lies outside of every package."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
