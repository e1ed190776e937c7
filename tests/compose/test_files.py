"""docker-compose.yml, the Dockerfile and .dockerignore, as far as they can be judged without an engine."""

import re
import shutil
import subprocess
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from tests.compose.stack import FILE, KAFKA, PORT, ROOT, kafka_properties, services
from tests.kafka import broker

SERVING = ("worker-1", "worker-2", "coordinator", "api")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
"""The stage that becomes the image."""
MISSING = (
    "docker-compose is not there to read docker-compose.yml: apt-get install docker-compose, or leave these tests out "
    "with --without-docker-compose"
)


@pytest.fixture(scope="module")
def resolved(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """The services as docker-compose understands them. It refuses what is not valid."""
    if request.config.getoption("--without-docker-compose"):
        pytest.skip("needs docker-compose, and --without-docker-compose was given")
    if shutil.which("docker-compose") is None:
        pytest.fail(MISSING, pytrace=False)
    command = ["docker-compose", "--file", str(FILE), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return found


# -- docker-compose.yml --------------------------------------------------------------------------------------


def test_what_the_processes_of_test_stack_are_run_with_is_what_docker_compose_reads(
    resolved: dict[str, dict[str, Any]],
) -> None:
    read = services()
    assert resolved.keys() == read.keys()
    for name, service in read.items():
        for part in ("command", "depends_on"):
            assert resolved[name].get(part) == service.get(part), f"{part} of {name}"
        variables = (one.get("environment", {}).items() for one in (resolved[name], service))
        assert len({frozenset((key, str(value)) for key, value in some) for some in variables}) == 1, name
        tests = (one.get("healthcheck", {}).get("test") for one in (resolved[name], service))
        assert len(set(map(str, tests))) == 1, f"health check of {name}"


def test_each_waits_for_what_it_needs(resolved: dict[str, dict[str, Any]]) -> None:
    waits = {
        (name, other, how["condition"])
        for name, service in resolved.items()
        for other, how in service.get("depends_on", {}).items()
    }
    assert waits == {
        ("topics", "kafka", "service_healthy"),
        *((name, "topics", "service_completed_successfully") for name in SERVING),
        ("shop", "api", "service_healthy"),
    }


def test_what_serves_is_looked_after(resolved: dict[str, dict[str, Any]]) -> None:
    for name, service in resolved.items():
        lasting = name != "topics"
        assert service["restart"] == ("unless-stopped" if lasting else "no"), name
        assert int(service["stop_grace_period"].removesuffix("s")) >= 30, name
        assert ("healthcheck" in service) == (name in (*SERVING, KAFKA)), name
        assert (service["image"], "build" in service) == (
            (broker.IMAGE, False) if name == KAFKA else ("coordinator", True)
        )


def test_it_is_one_server_with_each_role_and_no_file_in_two_hands() -> None:
    commands = {name: services()[name]["command"] for name in SERVING}
    roles = {name: words[words.index("--roles") + 1] for name, words in commands.items()}
    assert roles == {"worker-1": "partitions", "worker-2": "partitions", "coordinator": "requests", "api": "http"}
    for name, words in commands.items():
        assert words[words.index("--advertise") + 1] == f"{name}:{PORT}"
    stores = [volume for name in ("worker-1", "worker-2") for volume in services()[name]["volumes"]]
    assert [volume for volume in stores if volume.endswith(":/data")] == ["worker-1:/data", "worker-2:/data"]
    members = {services()[name]["environment"]["COORDINATOR_KAFKA_GROUP_INSTANCE_ID"] for name in SERVING[:2]}
    assert len(members) == 2


def test_only_this_machine_reaches_it() -> None:
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports == {"api": [f"127.0.0.1:{PORT}:{PORT}"]}


def test_kafka_is_told_to_others_under_its_name_and_keeps_its_data_in_its_volume() -> None:
    kafka = services()[KAFKA]
    properties = kafka_properties(kafka)
    assert properties["advertised.listeners"] == "PLAINTEXT://kafka:9092"
    assert "PLAINTEXT://0.0.0.0:9092" in properties["listeners"]
    assert kafka["volumes"] == [f"kafka:{properties['log.dirs']}"]
    for name, service in services().items():
        assert name in (KAFKA, "shop") or "kafka://kafka:9092" in service["command"]


# -- the image -----------------------------------------------------------------------------------------------


def copied() -> list[str]:
    """What the Dockerfile copies from the project."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps the path, or a folder above it, from the build: the last line that fits counts."""
    folders = [path[:end] for end in [*(match.start() for match in re.finditer("/", path)), len(path)]]
    result = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line.startswith("#"):
            continue
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in path.split("/"))
        else:
            fits = any(fnmatch(folder, pattern) and folder.count("/") == pattern.count("/") for folder in folders)
        result = not line.startswith("!") if fits else result
    return result


def test_all_that_is_copied_is_there_and_reaches_the_build() -> None:
    assert "coordinator" in copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    package = [
        str(path.relative_to(ROOT)) for path in (ROOT / "coordinator").rglob("*.*") if "__pycache__" not in str(path)
    ]
    assert not [path for path in package if ignored(path)]


def test_all_that_is_not_copied_stays_behind() -> None:
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "coordinator/cli/__pycache__/app.pyc"):
        assert ignored(path), path


def test_the_image_is_made_of_pinned_things() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    assert len(set(stages)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", stages[0])
    fetching = [line for line in DOCKERFILE.splitlines() if re.search(r"pip .*(install|download|wheel)\b", line)]
    assert len(fetching) == 4
    for line in fetching:
        assert "--require-hashes" in line or "--no-index" in line, line


def test_the_image_runs_as_nobody_special_and_has_nothing_to_build_with() -> None:
    users = re.findall(r"^USER (\S+)$", FINAL, re.MULTILINE)
    assert users == ["coordinator"]
    assert "useradd --uid=10001" in FINAL
    assert FINAL.index("USER") < FINAL.index("CMD")
    assert not re.search(r"\b(pip|apt-get|gcc)\b", FINAL)


def test_that_user_may_write_to_what_is_mounted() -> None:
    """A new volume takes over whose the folder of the image is."""
    made = re.search(r"install --directory --owner=coordinator --group=coordinator (.+)$", FINAL, re.MULTILINE)
    assert made is not None
    targets = {volume.split(":")[1] for name in SERVING for volume in services()[name].get("volumes", ())}
    assert targets == {"/data", "/snapshots"}
    assert targets <= set(made[1].split())
