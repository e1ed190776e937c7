"""Every command, option, exit code and setting is documented, and what is documented exists."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from coordinator.cli import settings
from coordinator.cli.app import app
from coordinator.cli.session import Exit
from tests.docs.pages import ROOT, blocks, commands, markdown, page, relative, tables

ROOT_COMMAND: Any = typer.main.get_command(app)
CLI = page("cli.md")


def is_group(command: Any) -> bool:
    """By what it has: which copy of click Typer is built on is its own business."""
    return hasattr(command, "commands")


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names, command) of every command that --help shows."""
    if is_group(command):
        for name, sub in command.commands.items():
            if not sub.hidden:
                yield from walk(sub, (*path, name))
    else:
        yield path, command


COMMANDS = dict(walk(ROOT_COMMAND))


def options(command: Any) -> set[str]:
    """`--x`, `-x` and `--no-x` of a command."""
    found = {"-h", "--help"}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, aliases included, and the words behind it."""
    command = ROOT_COMMAND
    words = list(words)
    while is_group(command) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_is_in_the_table_of_commands(path: tuple[str, ...]) -> None:
    firsts = [cells[0] for cells in tables(CLI)]
    assert any(re.match(rf"\[`coordinator {' '.join(path)}(`| )", cell) for cell in firsts)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_options_of_a_command_are_documented(path: tuple[str, ...]) -> None:
    missing = {option for option in options(COMMANDS[path]) if not re.search(rf"(?<![\w-]){option}(?![\w-])", CLI)}
    assert missing == set()


def test_no_option_is_documented_that_does_not_exist() -> None:
    known = set().union(*(options(command) for command in COMMANDS.values()))
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])", CLI))
    assert written <= known


def test_no_command_is_documented_that_does_not_exist() -> None:
    for cells in tables(CLI):
        shown = re.match(r"\[`coordinator ([a-z ]+)", cells[0])
        if shown is not None:
            command, rest = resolve(shown[1].split())
            assert not is_group(command), cells[0]
            assert rest == []


@pytest.mark.parametrize("path", markdown(), ids=relative)
def test_commands_that_pages_show_can_be_typed(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        command, rest = resolve(words)
        assert {word for word in rest if word.startswith("-") and word != "-"} <= options(command), words


def test_every_exit_code_is_in_the_table() -> None:
    codes = {int(cells[0]) for cells in tables(CLI) if cells[0].isdigit()}
    assert codes == {int(code) for code in Exit}


def test_every_environment_variable_is_in_the_table_of_settings() -> None:
    read = set()
    for source in (ROOT / "coordinator").rglob("*.py"):
        read |= set(re.findall(r"\bCOORDINATOR_[A-Z_]+\b", source.read_text(encoding="utf-8")))
    assert len(read) > 4
    written = {cells[1].strip("`") for cells in tables(CLI) if cells[1:] and cells[1].startswith("`COORDINATOR_")}
    assert written == read


def test_every_setting_of_the_file_is_in_the_table_of_settings() -> None:
    fields = re.findall(r"^            (\w+): .* = None$", inspect.getsource(settings.File), re.MULTILINE)
    assert len(fields) > 4
    written = {cells[2].strip("`") for cells in tables(CLI) if cells[1:] and cells[1].startswith("`COORDINATOR_")}
    assert written - {"–"} == set(fields)


def test_the_file_that_is_shown_can_be_read(tmp_path: Path) -> None:
    [shown] = blocks(CLI, "toml")
    path = tmp_path / "coordinator.toml"
    path.write_text(shown, encoding="utf-8")
    said = settings.File(path)
    assert msgspec.toml.decode(shown)["url"] == said.url
    assert said.data == tmp_path / "data"


def test_every_alias_is_documented() -> None:
    groups = {name: command for name, command in ROOT_COMMAND.commands.items() if is_group(command)}
    hidden = {name for name, group in groups.items() if group.hidden}
    for group in groups.values():
        hidden |= {name for name, command in group.commands.items() if command.hidden}
    assert hidden
    assert {alias for alias in hidden if f"`{alias}`" not in CLI} == set()
