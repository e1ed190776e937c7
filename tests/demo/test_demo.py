"""The demo as it is run: on a small number, through a pipe and on a terminal, on Kafka, and interrupted."""

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from coordinator.logs.kafka import KafkaSettings, topics
from coordinator.logs.kafka.settings import variable

DEMO = [sys.executable, "-c", "from coordinator.cli import main; main()", "demo"]
PROMISED = (
    "matched",
    "ended",
    "acknowledged before, alive",
    "in scope, started after",
    "not in scope, touched",
    "live commands refused",
    "in force after",
    "live latency before",
    "live latency during",
    "log entries for the batch",
    "stores equal the log",
)
NONE_OF = ("acknowledged before, alive", "in scope, started after", "not in scope, touched", "live commands refused")


def environment(folder: Path) -> dict[str, str]:
    """Temporary files in a folder that is watched, and settings of a user: for one process, or that must not matter."""
    nonsense = {"COORDINATOR_LISTEN": "nonsense", "COORDINATOR_TOKEN": "nonsense", "COORDINATOR_LOG": "nonsense"}
    of_kafka = {variable("topic.prefix"): "mine.", variable("group.instance.id"): "one"}
    return os.environ | {"TMPDIR": str(folder)} | nonsense | of_kafka


def table(text: str) -> dict[str, tuple[str, str]]:
    """By their names the verdicts and values of the table's lines."""
    _, _, result = text.partition("The result\n")
    lines = re.findall(r"^ {3}(ok|FAILED|) +(\S.*?)  +(\S.*?)(?:  .*)?$", result, re.MULTILINE)
    return {name: (verdict, value) for verdict, name, value in lines}


def test_all_of_it_holds_and_it_says_so(tmp_path: Path) -> None:
    said = _holds(tmp_path, "--invocations", "20000", "--seed", "4")
    assert int(table(said)["matched"][1].replace(",", "")) > 8_000
    assert re.search(r"importing \[#{24}\] 100%  20,\d{3} invocations, [\d,]+/s, took", said)
    assert re.search(r"killing \[#{24}\] 100%  [\d,]+ ended, [\d,]+/s, took", said)
    assert "\x1b" not in said


def test_all_of_it_holds_on_kafka_and_its_topics_go_away(tmp_path: Path, kafka: str) -> None:
    said = _holds(tmp_path, "--invocations", "4000", "--log", f"kafka://{kafka}")
    assert int(table(said)["matched"][1].replace(",", "")) > 1_500
    words = " ".join(said.split())
    shares = re.search(r"\(([\d and]+) are with (\S+), ([\d and]+) are with (\S+)\)", words)
    assert shares is not None, words
    assert sorted(re.findall(r"\d", shares[1] + shares[3])) == ["0", "1", "2", "3"]
    assert shares[2] != shares[4]
    assert re.search(r"facts in 2 directories compared with a replay", words)
    assert _topics(kafka, _prefix(said)) == []


def _holds(folder: Path, *options: str) -> str:
    """What the demo says; it succeeds, and leaves nothing in the folder."""
    run = subprocess.run(
        [*DEMO, *options], capture_output=True, text=True, env=environment(folder), timeout=240, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = table(run.stdout)
    assert {name: found.get(name, ("missing",))[0] for name in PROMISED} == dict.fromkeys(PROMISED, "ok")
    assert {found[name][1] for name in NONE_OF} == {"0"}
    parts = [int(found[f"{name} before"][1].replace(",", "")) for name in ("scheduled", "suspended")]
    assert sum(parts) == int(found["matched"][1].replace(",", ""))
    assert "All of it holds" in run.stdout
    assert not run.stderr
    assert list(folder.iterdir()) == []
    return run.stdout


def _prefix(said: str) -> str:
    """What the names of the demo's topics begin with, as it says."""
    found = re.search(r"mine\.demo-\w+\.", said)
    assert found is not None, said
    return found[0]


def _topics(kafka: str, prefix: str) -> list[str]:
    """The topics with this prefix."""

    async def all_of_them() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            return await admin.list_topics()
        finally:
            await admin.close()

    return [name for name in asyncio.run(all_of_them()) if name.startswith(prefix)]


def test_nothing_is_left_when_it_is_ended_in_the_midst(tmp_path: Path) -> None:
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    with contextlib.ExitStack() as stack:
        started = {number: stack.enter_context(_started(tmp_path / number.name)) for number in codes}
        urls = [_url(_once_live(process)) for process in started.values()]
        for number, process in started.items():
            process.send_signal(number)
        assert {number: process.wait(30) for number, process in started.items()} == codes
    _nothing_is_left([tmp_path / number.name for number in codes], urls)


def test_on_kafka_nothing_is_left_either_but_for_topics_when_it_is_killed_outright(tmp_path: Path, kafka: str) -> None:
    codes = {signal.SIGINT: 130, signal.SIGKILL: -9}
    urls, left = [], {}
    for number, code in codes.items():
        with _started(tmp_path / number.name, "--log", f"kafka://{kafka}") as process:
            said = _once_live(process)
            prefix = _prefix(said)
            urls.append(_url(said))
            process.send_signal(number)
            assert process.wait(60) == code
        left[number] = len(_topics(kafka, prefix))
    _nothing_is_left([tmp_path / number.name for number in codes], urls)
    assert left == {signal.SIGINT: 0, signal.SIGKILL: 6}
    topics.delete(KafkaSettings.of(f"kafka://{kafka}", {"topic.prefix": prefix}))
    assert _topics(kafka, prefix) == []


def _nothing_is_left(folders: list[Path], urls: list[str]) -> None:
    end = time.monotonic() + 30  # behind the one that was killed outright others clean up
    ours = [*urls, *map(str, folders)]
    while left := [path for folder in folders for path in folder.iterdir()] + _processes(ours):
        assert time.monotonic() < end, left
        time.sleep(0.05)
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)


def _started(folder: Path, *options: str) -> "subprocess.Popen[str]":
    folder.mkdir()
    command = [*DEMO, "--invocations", "1000", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(folder))


def _processes(ours: list[str]) -> list[str]:
    """What runs with one of these on its command line, where the system shows that."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(path.read_text(errors="replace"))
    return [line for line in lines if any(one in line for one in ours)]


def _once_live(process: "subprocess.Popen[str]") -> str:
    """What the demo says up to when live commands flow."""
    assert process.stdout is not None
    said = ""
    while "Live commands" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def _url(said: str) -> str:
    """Where the demo's server is, as it says."""
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    return url[0]


def test_on_a_terminal_it_draws(tmp_path: Path) -> None:
    here, there = pty.openpty()
    env = environment(tmp_path) | {"TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen([*DEMO, "--invocations", "1000"], stdout=there, stderr=there, env=env) as process:
        os.close(there)
        said = b""
        try:
            while piece := os.read(here, 65_536):
                said += piece
        except OSError:  # Linux's way to say that the other end is closed
            pass
        finally:
            os.close(here)
        assert process.wait(60) == 0, said.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert b"\x1b[" in said
    assert "━" in text
    assert "All of it holds" in text


def test_too_few_are_bad_usage() -> None:
    run = subprocess.run([*DEMO, "--invocations", "10"], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "--invocations" in run.stderr
