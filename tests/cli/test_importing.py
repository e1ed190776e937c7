"""import: packed or not, from a file or a pipe, with the times it has or moved to now."""

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.model import limits
from tests.cli.conftest import Cli
from tests.client.fake_server import FakeServer, Say

LINES = [
    {"id": "a", "created_at": "2026-11-21T03:50:40Z", "modified_at": "2026-11-21T03:50:45Z", "other": "ä"},
    {"id": "b", "created_at": "2026-11-21T03:50:41Z", "modified_at": "2026-11-21T03:50:50Z", "other": "2026"},
]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES).encode()


@pytest.fixture
def taken(fake: FakeServer) -> FakeServer:
    fake.on("POST", "/import", Say(200, {"imported": 2, "existing": 1}))
    return fake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT)
    return path


def test_a_file_is_sent_as_it_is(cli: Cli, taken: FakeServer, file: Path) -> None:
    done = cli("import", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"imported": 2, "existing": 1, "failed": 0, "errors": []}
    assert taken.asked[0].body == TEXT


def test_a_packed_file_is_unpacked_whatever_it_is_called(cli: Cli, taken: FakeServer, file: Path) -> None:
    file.write_bytes(gzip.compress(TEXT))
    assert cli("import", str(file)).returncode == 0
    assert cli("import", "-", stdin=gzip.compress(TEXT)).returncode == 0
    assert [asked.body for asked in taken.asked] == [TEXT, TEXT]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("piped", [False, True])
def test_times_are_moved_so_that_the_newest_change_is_now(
    cli: Cli, taken: FakeServer, file: Path, packed: bool, piped: bool
) -> None:
    data = gzip.compress(TEXT) if packed else TEXT
    file.write_bytes(data)
    before = time.time()
    done = cli("import", "-", "--rebase-times", stdin=data) if piped else cli("import", str(file), "--rebase-times")
    after = time.time()
    assert done.returncode == 0
    first, second = (json.loads(line) for line in taken.asked[0].body.splitlines())
    newest = datetime.fromisoformat(second["modified_at"])
    assert datetime.fromtimestamp(before, UTC) - timedelta(seconds=1) <= newest <= datetime.fromtimestamp(after, UTC)
    assert newest - datetime.fromisoformat(first["modified_at"]) == timedelta(seconds=5)
    assert newest - datetime.fromisoformat(first["created_at"]) == timedelta(seconds=10)
    assert (first["other"], second["other"]) == ("ä", "2026")


def test_lines_that_are_no_rows_stay_where_they_are_when_times_are_moved(cli: Cli, taken: FakeServer) -> None:
    long = b'{"id":"' + b"x" * limits.RECORD_BYTES_MAX + b'"}'
    cli("import", "-", "--rebase-times", stdin=b"\nbad\n" + TEXT + long + b"\n" + b"[]")
    lines = taken.asked[0].body.split(b"\n")
    assert (lines[:2], lines[4:]) == ([b"", b"bad"], [long, b"[]"])
    assert [json.loads(line)["id"] for line in lines[2:4]] == ["a", "b"]


def test_a_file_without_a_single_row_is_sent_all_the_same(cli: Cli, taken: FakeServer) -> None:
    cli("import", "-", "--rebase-times", stdin=b"bad\n")
    assert taken.asked[0].body == b"bad\n"


def test_bad_lines_are_told_with_number_and_reason(cli: Cli, fake: FakeServer, file: Path) -> None:
    errors = [{"line": 2, "reason": "not JSON"}]
    fake.on("POST", "/import", Say(200, {"imported": 1, "failed": 1_001, "errors": errors}))
    done = cli("import", str(file))
    assert done.returncode == 1
    assert done.stderr == "line 2: not JSON\nand 1,000 more lines\n"


@pytest.mark.parametrize("rebase", [[], ["--rebase-times"]])
def test_a_packed_file_that_breaks_off_is_told_as_such(
    cli: Cli, taken: FakeServer, file: Path, rebase: list[str]
) -> None:
    file.write_bytes(gzip.compress(TEXT)[:-12])
    done = cli("import", str(file), *rebase)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {file} cannot be read to its end")


def test_a_file_that_is_not_there_is_bad_usage(cli: Cli) -> None:
    done = cli("import", "nowhere.jsonl")
    assert (done.returncode, done.stderr) == (2, "Error: nowhere.jsonl cannot be read: No such file or directory\n")


def test_on_a_terminal_the_counts_are_words(cli: Cli, taken: FakeServer, file: Path) -> None:
    terminal = cli.on_a_terminal("import", str(file))
    assert terminal.close() == 0
    assert "2 imported, 1 were there before, 0 failed" in terminal.shown
