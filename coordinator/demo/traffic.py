"""The live traffic: a process of its own that starts invocations over HTTP at a steady rate and notes each.

`python -m coordinator.demo.traffic URL SEED PER_S` goes on until its standard input ends, which also happens when
whoever started it is gone, however that came about. Each send is a line on standard output once it is answered.

The loop is open: every send has its time, kept to whether or not earlier ones are answered, and its latency counts
from that time, so that a server that stands still shows in all the sends that it holds up and not in one.
"""

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from coordinator.demo.wire import NotAnsweredError, Sender

PER_S: Final = 200
GREETER: Final = "Greeter/greet"
_CARTS: Final = 50
_ACCEPTED: Final = 202


class Sent(msgspec.Struct, array_like=True):
    """A send that came back. Times are microseconds since the epoch, of this machine's clock."""

    target: str
    delay_ms: int
    planned_at: int
    """When it was to be sent."""
    sent_at: int
    answered_at: int
    id: str
    """The invocation that was acknowledged; empty when it was not."""
    error: str = ""

    @property
    def latency_ms(self) -> float:
        """From the time when it was to be sent."""
        return (self.answered_at - self.planned_at) / 1e3


def read(path: Path) -> list[Sent]:
    """What the process has noted so far; a line that is being written is left out."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    decode = msgspec.json.Decoder(Sent).decode
    return [decode(line) for line in whole.splitlines()]


def workload(chance: random.Random) -> Iterator[tuple[str, int]]:
    """Targets, and delays in milliseconds.

    Most go to the service that is swept. Of these some start at once, many lie scheduled for long, and many come
    due within seconds, so that at the moment when the command comes in force some are just about to.
    """
    while True:
        kind = chance.random()
        if kind < 0.35:
            yield GREETER, chance.randrange(2_000, 20_000)
        elif kind < 0.65:
            yield GREETER, 3_600_000
        elif kind < 0.75:
            yield GREETER, 0
        elif kind < 0.9:
            yield f"CartObject/live{chance.randrange(_CARTS)}/add", 0
        else:
            yield "PaymentService/refund", 0


async def _send(sender: Sender, target: str, delay_ms: int, planned_at: int) -> None:
    delay = f"?delay={delay_ms}ms" if delay_ms else ""
    sent_at, id, error = _now_us(), "", ""
    try:
        status, body = await sender.post(f"/services/{target}/send{delay}", b'{"name":"live"}')
        if status == _ACCEPTED:
            id = msgspec.json.decode(body)["id"]
        else:
            error = f"{status} {body.decode(errors='replace')}"
    except NotAnsweredError as failure:
        error = str(failure)
    sent = Sent(target, delay_ms, planned_at, sent_at, _now_us(), id, error)
    sys.stdout.buffer.write(msgspec.json.encode(sent) + b"\n")
    sys.stdout.buffer.flush()


async def _flow(url: str, seed: int, per_s: int, ended: asyncio.Event) -> None:
    chance = random.Random(seed)  # noqa: S311 - reproducible on purpose
    under_way: set[asyncio.Task[None]] = set()
    sender = Sender(url)
    begun_at = _now_us()
    for number, (target, delay_ms) in enumerate(workload(chance)):
        planned_at = begun_at + number * 1_000_000 // per_s
        await asyncio.sleep((planned_at - _now_us()) / 1e6)
        if ended.is_set():
            break
        task = asyncio.create_task(_send(sender, target, delay_ms, planned_at))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    sender.close()


async def _main(url: str, seed: int, per_s: int) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await _flow(url, seed, per_s, ended)


def _now_us() -> int:
    return time.time_ns() // 1_000


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    url, seed, per_s = arguments
    asyncio.run(_main(url, int(seed), int(per_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
