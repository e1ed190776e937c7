"""Flags, then the environment, then a file; and what the help says."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.client.fake_server import FakeServer, Say


@pytest.fixture
def nowhere(tmp_path: Path, fake: FakeServer) -> Cli:
    """A command line that nobody has told where the server is."""
    fake.on("GET", "/batches", Say(200, []))
    return Cli(tmp_path)


def test_the_url_comes_from_the_flag_then_the_environment_then_the_file(nowhere: Cli, fake: FakeServer) -> None:
    wrong = "http://127.0.0.1:1"
    file = nowhere.directory / "coordinator.toml"
    file.write_text(f'url = "{fake.url}"\n')
    assert nowhere("batches", "list").returncode == 0
    assert nowhere("batches", "list", COORDINATOR_URL=wrong).returncode == 4
    assert nowhere("batches", "list", "--url", fake.url, COORDINATOR_URL=wrong).returncode == 0
    file.write_text(f'url = "{wrong}"\n')
    assert nowhere("batches", "list", COORDINATOR_URL=fake.url).returncode == 0
    done = nowhere("batches", "list")
    assert (done.returncode, wrong in done.stderr) == (4, True)


def test_the_file_may_lie_elsewhere(nowhere: Cli, fake: FakeServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc" / "settings.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(f'url = "{fake.url}"\ntoken = "from-the-file"\n')
    assert nowhere("batches", "list", COORDINATOR_CONFIG=str(elsewhere)).returncode == 0
    assert nowhere("batches", "list", COORDINATOR_CONFIG=str(elsewhere), COORDINATOR_TOKEN="t").returncode == 0
    assert [asked.headers["authorization"] for asked in fake.asked] == ["Bearer from-the-file", "Bearer t"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("urll = 'x'", "unknown field `urll`"), ("partitions = 'x'", "`$.partitions`"), ("url =", "cannot be read")],
)
def test_a_file_that_cannot_be_meant_so_is_bad_usage(nowhere: Cli, text: str, says: str) -> None:
    (nowhere.directory / "coordinator.toml").write_text(text)
    done = nowhere("batches", "list")
    assert done.returncode == 2
    assert says in done.stderr
    assert "url, token, data, listen, partitions" in done.stderr


def test_a_file_that_was_named_must_be_there(nowhere: Cli) -> None:
    done = nowhere("batches", "list", COORDINATOR_CONFIG="nowhere.toml")
    assert done.returncode == 2
    assert "nowhere.toml cannot be read" in done.stderr


def test_the_data_directory_comes_from_the_flag_then_the_environment_then_the_file(nowhere: Cli) -> None:
    def there_is_no_log_in(done_stderr: str) -> str:
        return done_stderr.removeprefix("Error: there is no log in ").split(";")[0]

    assert there_is_no_log_in(nowhere("check").stderr) == "coordinator-data"
    folder = nowhere.directory / "etc"
    folder.mkdir()
    (folder / "settings.toml").write_text('data = "data"\n')
    config = str(folder / "settings.toml")
    assert there_is_no_log_in(nowhere("check", COORDINATOR_CONFIG=config).stderr) == str(folder / "data")
    assert there_is_no_log_in(nowhere("check", COORDINATOR_CONFIG=config, COORDINATOR_DATA="env").stderr) == "env"
    assert there_is_no_log_in(nowhere("check", "--data", "flag", COORDINATOR_DATA="env").stderr) == "flag"


@pytest.mark.parametrize("setting", ["127.0.0.1", "127.0.0.1:http", ":99999"])
def test_an_address_that_is_none_is_bad_usage(nowhere: Cli, setting: str) -> None:
    done = nowhere("serve", "--listen", setting)
    assert done.returncode == 2
    assert "--listen" in done.stderr


def test_help_needs_no_server_and_no_http(nowhere: Cli) -> None:
    for args in (["--help"], ["-h"], ["invocations", "kill", "--help"], ["inv", "list", "-h"]):
        assert nowhere(*args).returncode == 0
    shown = nowhere("invocations", "list", "--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"httpx", "asyncio", "msgspec", "rich.console", "litestar", "apsw"}


@pytest.mark.parametrize(
    "args",
    [["invocations"], ["batches", "frob"], ["invocations", "frob", "inv_1"], ["batches", "rate", "b1"]],
)
def test_what_is_no_command_is_bad_usage(nowhere: Cli, args: list[str]) -> None:
    assert nowhere(*args).returncode == 2


def test_listing_takes_the_flags_of_the_contract(nowhere: Cli) -> None:
    shown = nowhere("invocations", "kill", "--help").stdout
    wanted = """--service --handler --key --status --on-deployment --created-before --created-after --modified-before
        --modified-after --all --request-id --reason --dry-run --expect --max --rate --yes --wait --no-wait --url"""
    assert [flag for flag in wanted.split() if flag not in shown] == []
    assert "--deployment" not in shown.replace("--on-deployment", "")


def test_the_place_of_snapshots_comes_from_the_flag_then_the_environment_then_the_file(nowhere: Cli) -> None:
    def there_is_no_directory(*args: str, **env: str) -> str:
        done = nowhere("snapshot", "list", *args, **env)
        assert done.returncode == 2
        return done.stderr.removeprefix("Error: there is no directory ").split(";")[0]

    (nowhere.directory / "etc").mkdir()
    file = nowhere.directory / "etc" / "settings.toml"
    file.write_text('snapshots = "by-the-file"\n')
    named = {"COORDINATOR_CONFIG": "etc/settings.toml"}
    assert there_is_no_directory(**named) == "etc/by-the-file"
    assert there_is_no_directory(**named, COORDINATOR_SNAPSHOTS="environment") == "environment"
    assert there_is_no_directory("--from", "flag", **named, COORDINATOR_SNAPSHOTS="environment") == "flag"


@pytest.mark.parametrize(
    ("text", "says"),
    [("snapshot_keep = 1", "--snapshot-keep"), ("snapshot_records = 0", "--snapshot-records"), ("", "--snapshot-keep")],
)
def test_a_policy_of_snapshots_that_cannot_be_meant_is_bad_usage(nowhere: Cli, text: str, says: str) -> None:
    (nowhere.directory / "coordinator.toml").write_text(f'snapshots = "here"\n{text}\n')
    done = nowhere("serve", *([] if text else ["--snapshot-keep", "1"]))
    assert (done.returncode, says in done.stderr) == (2, True)
