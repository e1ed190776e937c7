"""What is checked in is what `make schemas` would write."""

from __future__ import annotations

import shutil
from pathlib import Path

from coordinator.contract import artifacts
from tests.contract.goldens import ROOT


def test_the_files_are_as_the_types_have_it() -> None:
    assert artifacts.drift(ROOT) == [], "run make schemas and commit what it writes"


def test_writing_makes_all_files_from_the_readme_alone_and_removes_what_is_left_over(tmp_path: Path) -> None:
    copied = tmp_path / artifacts.README
    copied.parent.mkdir()
    shutil.copy(ROOT / artifacts.README, copied)
    left_over = tmp_path / "schemas" / "json" / "Forgotten.json"
    left_over.parent.mkdir()
    left_over.write_text("{}")

    changed = artifacts.write(tmp_path)

    assert "schemas/json/Forgotten.json" in changed
    assert not left_over.exists()
    assert artifacts.drift(tmp_path) == []
    for path, content in artifacts.artifacts(ROOT).items():
        assert (tmp_path / path).read_bytes() == content, path


def test_an_edited_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    shutil.copy(ROOT / artifacts.README, tmp_path / artifacts.README)
    artifacts.write(tmp_path)
    (tmp_path / "schemas" / "json" / "Submit.json").write_text("{}")
    (tmp_path / "docs" / "messages.md").unlink()
    assert artifacts.drift(tmp_path) == ["docs/messages.md", "schemas/json/Submit.json"]
