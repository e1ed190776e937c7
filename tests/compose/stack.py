"""The services of docker-compose.yml as processes of this machine: the same commands, settings and health checks.

What a container has to itself, this machine has once: `Stack.places` is the table of what stands for what. All else
is taken from the file as it is. Kafka's own image is not ours to take apart: a broker stands for it that has its
settings, but for those that are addresses and paths.
"""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from tests.kafka.broker import Broker, NoBrokerError, free_port
from tests.system.server import eventually

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
PORT = 9070
"""On which each of our containers listens."""
KAFKA = "kafka"
PATIENCE_S = 180
_PLACES_OF_KAFKA = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
_TOOLS = {"/opt/kafka/bin/kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand"}
"""What the scripts in Kafka's image run."""


def services() -> dict[str, dict[str, Any]]:
    """By name, with what they take from one another put in."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    return found


def kafka_properties(service: dict[str, Any]) -> dict[str, str]:
    """The broker's settings, by the names that the image makes of its variables."""
    given = service["environment"].items()
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in given
        if name.startswith("KAFKA_")
    }


class Stack:
    """All services, with their files in a directory."""

    def __init__(self, directory: Path, programs: Path = Path(sys.executable).parent) -> None:
        """`programs` is where `coordinator` and `python` are, as on the image's path."""
        self.services = services()
        self._directory = directory
        self._programs = programs
        ours = [name for name in self.services if name != KAFKA]
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in ours}
        properties = kafka_properties(self.services[KAFKA]).items()
        (directory / KAFKA).mkdir()
        self._broker = Broker(
            directory / KAFKA, settings={name: value for name, value in properties if name not in _PLACES_OF_KAFKA}
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def places(self, name: str) -> dict[str, str]:
        """What stands in a service's part of the file, and what it is on this machine."""
        own = self.addresses[name]
        return {
            "kafka:9092": self._broker.bootstrap,
            f"0.0.0.0:{PORT}": own,
            f"127.0.0.1:{PORT}": own,
            **{f"{other}:{PORT}": address for other, address in self.addresses.items()},
            "/data": str(self._made(name)),  # the image's own
            **dict(self._volumes(name)),
        }

    def _volumes(self, name: str) -> Iterator[tuple[str, str]]:
        for volume in self.services[name].get("volumes", ()):
            source, target, *_ = volume.split(":")
            yield target, str(ROOT / source if source.startswith(".") else self._made(f"volume-{source}"))

    def _made(self, name: str) -> Path:
        path = self._directory / name
        path.mkdir(exist_ok=True)
        return path

    # -- up and down -----------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start each service once those that it depends on are as far as it says."""
        order = TopologicalSorter({name: set(self._dependencies(name)) for name in self.services})
        for name in order.static_order():
            for other, condition in self._dependencies(name).items():
                self._await(other, condition)
            self._start(name)
        for name, service in self.services.items():
            if "healthcheck" in service:
                self._await(name, "service_healthy")

    def _dependencies(self, name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in self.services[name].get("depends_on", {}).items()}

    def _await(self, name: str, condition: str) -> None:
        if condition == "service_completed_successfully":
            code = self._processes[name].wait(PATIENCE_S)
            assert code == 0, self.said(name)
        else:
            assert condition == "service_healthy"
            eventually(lambda: self.healthy(name), within_s=PATIENCE_S, says=lambda: self.said(name))

    def _start(self, name: str) -> None:
        if name == KAFKA:
            self._broker.start()
            return
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                self._command(name, self.services[name]["command"]), stdout=log, stderr=log, **self._surroundings(name)
            )

    def stop(self, name: str) -> int:
        """The exit code; the process has as long as a container."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(int(self.services[name]["stop_grace_period"].removesuffix("s")))

    def down(self) -> None:
        """Have all of it over with."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._broker.stop()

    # -- what they are run with ------------------------------------------------------------------------------

    def healthy(self, name: str) -> bool:
        """What the service's health check says. Fails when its process has ended."""
        check = self.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        if name == KAFKA:
            script, *arguments = command
            arguments = [word.replace("kafka:9092", self._broker.bootstrap) for word in arguments]
            with contextlib.suppress(NoBrokerError):
                self._broker.run_tool(_TOOLS[script], *arguments)
                return True
            return False
        assert self._processes[name].poll() is None, f"{name} has ended:\n{self.said(name)}"
        done = subprocess.run(
            self._command(name, command), capture_output=True, check=False, **self._surroundings(name)
        )
        return done.returncode == 0

    def said(self, name: str) -> str:
        """The end of what it wrote."""
        log = self._directory / f"{name}.log"
        return log.read_text(errors="replace")[-4_000:] if log.exists() else ""

    def _command(self, name: str, words: list[str]) -> list[str]:
        return [self._here(name, word) for word in words]

    def _surroundings(self, name: str) -> dict[str, Any]:
        given = self.services[name].get("environment", {})
        environment = {key: self._here(name, str(value)) for key, value in given.items()}
        return {"cwd": self._made(name), "env": {"PATH": str(self._programs), **environment}}

    def _here(self, name: str, text: str) -> str:
        places = self.places(name)
        return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], text)
