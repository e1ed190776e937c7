"""The live traffic: a process of its own that starts invocations over HTTP at a steady rate and notes each.

`python -m coordinator.demo.traffic URL SEED PER_S` goes on until its standard input ends, which also happens when
whoever started it is gone, however that came about. Each send is a line on standard output once it is answered.

The loop is open: every send has its time, kept to whether or not earlier ones are answered, and its latency counts
from that time, so that a server that stands still shows in all the sends that it holds up and not in one.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from coordinator.demo.parent import when_gone
from coordinator.demo.wire import NotAnsweredError, Sender

PER_S: Final = 200
GREETER: Final = "Greeter/greet"
_CARTS: Final = 50
_SOON_MS: Final = (2_000, 14_000)
_LONG_MS: Final = 3_600_000
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


class Send(NamedTuple):
    """A send that is to be made."""

    target: str
    delay_ms: int = 0
    """How long it is scheduled."""
    pause_ms: int = 0
    """How long its handler sleeps; it is suspended meanwhile."""


def workload(chance: random.Random) -> Iterator[Send]:
    """What to send.

    Most goes to the service that is swept. Of that some lies scheduled for long, and much is due within seconds, be
    it to start or to go on, so that some is just about to when the command comes in force, and while it is worked off.
    """
    while True:
        kind = chance.random()
        if kind < 0.3:
            yield Send(GREETER, delay_ms=chance.randrange(*_SOON_MS))
        elif kind < 0.55:
            yield Send(GREETER, pause_ms=chance.randrange(*_SOON_MS))
        elif kind < 0.75:
            yield Send(GREETER, delay_ms=_LONG_MS)
        elif kind < 0.9:
            yield Send(f"CartObject/live{chance.randrange(_CARTS)}/add")
        else:
            yield Send("PaymentService/refund")


async def _send(sender: Sender, send: Send, planned_at: int) -> None:
    target, delay_ms, pause_ms = send
    delay = f"?delay={delay_ms}ms" if delay_ms else ""
    sent_at, id, error = _now_us(), "", ""
    try:
        status, body = await sender.post(f"/services/{target}/send{delay}", b'{"pause_ms":%d}' % pause_ms)
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
    for number, send in enumerate(workload(chance)):
        planned_at = begun_at + number * 1_000_000 // per_s
        await asyncio.sleep((planned_at - _now_us()) / 1e6)
        if ended.is_set():
            break
        task = asyncio.create_task(_send(sender, send, planned_at))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    sender.close()


async def _main(url: str, seed: int, per_s: int) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    when_gone(lambda: loop.call_soon_threadsafe(ended.set))
    await _flow(url, seed, per_s, ended)


def _now_us() -> int:
    return time.time_ns() // 1_000


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    url, seed, per_s = arguments
    asyncio.run(_main(url, int(seed), int(per_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
