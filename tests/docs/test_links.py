"""No link leads nowhere, and nothing speaks of places that only its authors' machines have."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, markdown, prose, relative, tracked

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)

# Put together, so that this file does not hold what it looks for.
MACHINE_PATHS = tuple(
    "/".join(parts) for parts in (("", "work", ""), ("..", "shared"), ("", "root", ""), ("", "tmp", "bash_"))
)


def anchors(path: Path) -> set[str]:
    """The fragments that a page's headings have on GitHub."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(path.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        number = 0
        while (numbered := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(numbered)
    return found


@pytest.mark.parametrize("path", markdown(), ids=relative)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = unquote(link).partition("#")
        page = (path.parent / target).resolve() if target else path
        if not page.exists() or (fragment and page.suffix == ".md" and fragment not in anchors(page)):
            dead.append(link)
    assert dead == []


def test_a_heading_that_stands_twice_has_two_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c?\n\n## A b c\n\n```\n# not one\n```\n", encoding="utf-8")
    assert anchors(page) == {"a-b-c", "a-b-c-1"}


def test_no_file_speaks_of_the_machines_it_was_written_on() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        found += [f"{relative(path)}: {name}" for name in MACHINE_PATHS if name in text]
    assert found == []


def test_links_to_files_stay_within_the_project() -> None:
    outside = []
    for path in markdown():
        for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
            target = unquote(link).partition("#")[0]
            if target and not re.match(r"[a-z]+:", link) and ROOT not in (path.parent / target).resolve().parents:
                outside.append(f"{relative(path)}: {link}")
    assert outside == []


@pytest.mark.parametrize("path", markdown(), ids=relative)
def test_every_source_file_that_is_named_is_there(path: Path) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?)`", path.read_text(encoding="utf-8"))
    folders = (ROOT, ROOT / "coordinator", path.parent)
    left_by_the_server = {"coordinator-data/"}
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert set(missing) <= left_by_the_server
