"""The demo as it is run: on a small number, through a pipe and on a terminal, and interrupted."""

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
    """Temporary files in a folder that is watched, and settings of a user that must not matter."""
    return os.environ | {"TMPDIR": str(folder), "COORDINATOR_LISTEN": "nonsense", "COORDINATOR_TOKEN": "nonsense"}


def table(text: str) -> dict[str, tuple[str, str]]:
    """By their names the verdicts and values of the table's lines."""
    _, _, result = text.partition("The result\n")
    lines = re.findall(r"^ {3}(ok|FAILED|) +(\S.*?)  +(\S.*?)(?:  .*)?$", result, re.MULTILINE)
    return {name: (verdict, value) for verdict, name, value in lines}


def test_all_of_it_holds_and_it_says_so(tmp_path: Path) -> None:
    command = [*DEMO, "--invocations", "20000", "--seed", "4"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = table(run.stdout)
    assert {name: found.get(name, ("missing",))[0] for name in PROMISED} == dict.fromkeys(PROMISED, "ok")
    assert {found[name][1] for name in NONE_OF} == {"0"}
    matched = int(found["matched"][1].replace(",", ""))
    assert matched > 8_000
    assert sum(int(found[f"{name} before"][1].replace(",", "")) for name in ("scheduled", "suspended")) == matched
    assert "All of it holds" in run.stdout
    assert re.search(r"importing \[#{24}\] 100%  20,\d{3} invocations, [\d,]+/s, took", run.stdout)
    assert re.search(r"killing \[#{24}\] 100%  [\d,]+ ended, [\d,]+/s, took", run.stdout)
    assert "\x1b" not in run.stdout
    assert not run.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_it_is_ended_in_the_midst(tmp_path: Path) -> None:
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    with contextlib.ExitStack() as stack:
        started = {number: stack.enter_context(_started(tmp_path / number.name)) for number in codes}
        urls = [_url_once_live(process) for process in started.values()]
        for number, process in started.items():
            process.send_signal(number)
        assert {number: process.wait(30) for number, process in started.items()} == codes
    end = time.monotonic() + 30  # behind the one that was killed outright others clean up
    while left := [path for number in codes for path in (tmp_path / number.name).iterdir()] + _processes(urls):
        assert time.monotonic() < end, left
        time.sleep(0.05)
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)


def _started(folder: Path) -> "subprocess.Popen[str]":
    folder.mkdir()
    command = [*DEMO, "--invocations", "1000"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(folder))


def _processes(urls: list[str]) -> list[str]:
    """What runs with one of these on its command line, where the system shows that: the participant, the traffic."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(path.read_text(errors="replace"))
    return [line for line in lines if any(url in line for url in urls)]


def _url_once_live(process: "subprocess.Popen[str]") -> str:
    """Where the demo's server is, read from what the demo says, up to when live commands flow."""
    assert process.stdout is not None
    said = ""
    while "Live commands" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
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
