"""A participant of a few lines: a process that speaks to the server with nothing but HTTP, msgpack and frames.

`python -m tests.system.participant URL DEPLOYMENT SERVICE CAPACITY`. What a handler does, its name says: `echo`
returns its input and the process and attempt that ran it, `hold` runs until it is dropped, `fail` fails, `call`
calls what its input names and returns what that has returned.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec

from coordinator.model import framing, messages
from coordinator.model.journal import Call, Step, StepKind

HANDLERS = ("echo", "hold", "fail", "call")


class Participant:
    """One session after the other, as long as the process lives."""

    def __init__(self, http: httpx.AsyncClient, deployment: str, service: str, capacity: int) -> None:
        self._http = http
        self._deployment, self._service, self._capacity = deployment, service, capacity
        self._running: dict[str, messages.Start] = {}
        self.most = 0
        """The most attempts that it ever had at once."""

    async def run(self) -> None:
        """Until it is killed."""
        while True:
            with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
                await self._connect()
            await asyncio.sleep(0.1)

    async def _connect(self) -> None:
        services = [{"name": self._service, "type": "service", "handlers": [{"name": name} for name in HANDLERS]}]
        await self._post("/deployments", {"id": self._deployment, "services": services})
        opened = await self._post("/sessions", {"deployment": self._deployment, "capacity": self._capacity})
        session = f"/sessions/{opened.json()['id']}"
        self._running.clear()
        beating = asyncio.create_task(self._beat(session))
        try:
            async with self._http.stream("GET", f"{session}/deliveries") as stream:
                stream.raise_for_status()
                splitter = framing.Splitter()
                async for chunk in stream.aiter_bytes():
                    deliveries = [messages.decode_delivery(value) for value in splitter.feed(chunk)]
                    if deliveries:
                        await self._take(session, deliveries)
        finally:
            beating.cancel()

    async def _take(self, session: str, deliveries: list[messages.Delivery]) -> None:
        reports: list[messages.Report] = []
        for delivery in deliveries:
            if isinstance(delivery, messages.Start):
                self._running[delivery.id] = delivery
                self.most = max(self.most, len(self._running))
                reports += self._handle(delivery)
            elif isinstance(delivery, messages.Drop):
                self._running.pop(delivery.id, None)
        await self._report(session, reports)

    def _handle(self, start: messages.Start) -> list[messages.Report]:
        id, attempt = start.id, start.attempt
        reports: list[messages.Report] = [messages.Started(id=id, attempt=attempt)]
        if start.handler == "hold":
            return reports
        if start.handler == "call" and not start.entries:
            service, handler = (start.input or b"").decode().split("/")
            step = Step(kind=StepKind.CALL, call=Call(service=service, handler=handler, input=b'"called"'))
            reports.append(messages.Steps(id=id, attempt=attempt, first=0, steps=(step,)))
            reports.append(messages.Suspended(id=id, attempt=attempt, awaiting=(0,)))
        elif start.handler == "call":
            reports.append(messages.Completed(id=id, attempt=attempt, outcome="success", output=start.entries[0].value))
        elif start.handler == "fail":
            reports.append(messages.Completed(id=id, attempt=attempt, outcome="failure", failure="it always does"))
        else:
            told = {"input": (start.input or b"").decode(), "pid": os.getpid(), "attempt": attempt, "most": self.most}
            output = json.dumps(told).encode()
            reports.append(messages.Completed(id=id, attempt=attempt, outcome="success", output=output))
        del self._running[id]
        return reports

    async def _report(self, session: str, reports: list[messages.Report]) -> None:
        body = framing.frames([messages.encode(report) for report in reports])
        while True:
            response = await self._http.post(f"{session}/reports", content=body)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(0.1)
        response.raise_for_status()
        answers = msgspec.msgpack.decode(response.content)
        assert all(code in (200, 409) for code, _, _ in answers), answers

    async def _beat(self, session: str) -> None:
        while True:
            await asyncio.sleep(2)
            with contextlib.suppress(httpx.TransportError):
                await self._http.post(f"{session}/reports")

    async def _post(self, path: str, body: object) -> httpx.Response:
        response = await self._http.post(path, json=body)
        response.raise_for_status()
        return response


@contextlib.contextmanager
def participant(
    url: str, log: Path, *, deployment: str = "dp_1", service: str = "Echo", capacity: int = 100
) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs as a process of its own, until the block ends or it is killed."""
    command = [sys.executable, "-m", "tests.system.participant", url, deployment, service, str(capacity)]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=Path(__file__).parents[2])
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def main(url: str, deployment: str, service: str, capacity: str) -> None:
    """Entry point of the process."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await Participant(http, deployment, service, int(capacity)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
