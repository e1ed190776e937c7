"""Cooperative cancels to their end: trees that wait, one batch, a live participant that compensates for each.

Each tree is an invocation that awaits an attached child, which sleeps: the cancel goes to the child first, its handler
compensates and ends, then the parent's. Server, workers and participant are processes of their own, as in use.

The baseline is a kill of as many trees of the same kind, in which no handler takes part.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.session import Numbers, Session

_PARTITIONS = 4
_PATIENCE_S = 300.0
_LOOK_S = 0.05
_WAITING = {"status": ["suspended"]}


def measure(session: Session) -> Numbers:
    """Invocations ended per second by a cancel, and by a kill, from the request until the last has ended."""
    count = session.scale.trees
    with session.folder() as folder, _server(folder) as client, _participant(folder, client):
        session.say(f"cancels: {count} trees")
        cancel_s = _end_trees(client, "cancel", count)
        undone = client.get(f"/invocations/{_send(client, 'Forest/undone', None)}/output").json()
        session.say(f"cancels: {count} trees to kill")
        kill_s = _end_trees(client, "kill", count)
    if undone != 2 * count:
        raise RuntimeError(f"{undone} compensations ran for {2 * count} cancelled invocations")
    return {
        "cancels_per_s": 2 * count / cancel_s,
        "cancelled_trees_per_s": count / cancel_s,
        "kills_of_trees_per_s": 2 * count / kill_s,
        "cancels_ratio": kill_s / cancel_s,
    }


def _end_trees(client: httpx.Client, action: str, count: int) -> float:
    """Let trees grow until all wait, end them by one batch; how long that took, in seconds."""
    _send(client, "Forest/plant", count)
    _until(lambda: sum(_count(client, service, _WAITING) for service in ("Tree", "Leaf")) == 2 * count)
    began = time.perf_counter()
    batch = client.post("/batches", json={"action": action, "filter": {"service": "Tree"}}).raise_for_status().json()
    live = {"status": ["ready", "running", "suspended", "backing-off"]}
    _until(lambda: _is_over(client, batch["id"]))
    _until(lambda: not _count(client, "Leaf", live))
    return time.perf_counter() - began


def _is_over(client: httpx.Client, id: str) -> bool:
    batch = client.get(f"/batches/{id}").raise_for_status().json()
    return bool(batch["state"] == "completed" and batch["signalled"] == 0)


def _count(client: httpx.Client, service: str, filter: dict[str, Any]) -> int:
    body = {"action": "count", "filter": {"service": service, **filter}}
    batch = client.post("/batches", json=body).raise_for_status().json()
    while batch["finished_at"] is None:
        time.sleep(_LOOK_S)
        batch = client.get(f"/batches/{batch['id']}").raise_for_status().json()
    return int(batch["matched"])


def _send(client: httpx.Client, target: str, input: Any) -> str:
    return str(client.post(f"/services/{target}/send", json=input).raise_for_status().json()["id"])


def _until(holds: Any) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"not over after {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    coordinator = str(Path(sys.executable).with_name("coordinator"))
    command = [
        coordinator,
        "serve",
        "--data",
        str(folder / "data"),
        "--partitions",
        str(_PARTITIONS),
        "--listen",
        address,
    ]
    with (
        _process(folder / "server.log", *command),
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        _until(lambda: _answers(client, "/ready"))
        yield client


@contextlib.contextmanager
def _participant(folder: Path, client: httpx.Client) -> Iterator[None]:
    with _process(folder / "participant.log", sys.executable, "-m", "bench.forest", str(client.base_url)):
        _until(lambda: bool(client.get("/deployments").json()))
        yield


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def _process(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
