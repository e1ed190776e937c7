"""A day at the shop, with a server and a participant of its own, or with the server that COORDINATOR_URL names.

`python run.py [ORDERS] [GRACE_S]`: half of the orders are placed before noon and half after it. Those of the morning
are cancelled with one batch; those of them that hang in their compensation are killed, and placed again. In the end a
table says what has become of everything. Exit code 1 if an order got lost on the way.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services import Purchase  # beside this file

from coordinator.client import Client, Filter, UnreachableError, cancel, kill, restart_as_new

ITEMS: Final = ("chair", "lamp", "shelf", "table")
BANKS: Final = ("east", "north", "south", "west", "harbour")
AT_ONCE: Final = 50
"""Orders are placed so many at a time."""
BUSY_S: Final = 300
"""For longer the shop cannot be busy with what it has."""

TARGETS: Final = (
    "Order/place",
    "Payments/charge",
    "Stock/reserve",
    "Shipping/deliver",
    "Stock/release",
    "Payments/refund",
)
OUTCOMES: Final = ("success", "failure", "cancelled", "killed")
Found = Counter[tuple[str, str]]
"""How many invocations there are of each handler in each status, or with each outcome."""


async def day(client: Client, orders: int, grace_s: float) -> bool:
    """Everything that happens; whether each order has come to where it belongs."""
    await place(client, range(orders // 2))
    noon = datetime.now(UTC)
    await place(client, range(orders // 2, orders))
    found = await come_to_rest(client)
    print(f"{orders:,} orders are placed, {found['Order/place', 'failure']:,} declined; the others are being delivered")

    morning = Filter(service="Order", created_before=noon)
    batch = await client.submit(cancel(morning, reason="the lorry broke down"))
    cancelled = await batch.wait()
    print(f"{cancelled.matched:,} of the morning are asked to cancel, and have {grace_s:g} s to do so")
    await asyncio.sleep(grace_s)

    batch = await client.submit(kill(morning, reason="their money cannot be given back"))
    killed = await batch.wait()
    print(f"{killed.ended:,} of them hang and are killed, with {killed.propagated:,} calls that they wait for")

    ids = [one.id async for one in client.invocations(morning) if one.outcome == "killed"]
    batch = await client.submit(restart_as_new(Filter(ids=ids), reason="the lorry is repaired"))
    restarted = await batch.wait()
    print(f"{restarted.applied:,} are restarted as new\n")

    found = await come_to_rest(client)
    show(found)
    return all_accounted_for(found, orders, killed.ended)


# -- what is there ---------------------------------------------------------------------------------------------


async def come_to_rest(client: Client) -> Found:
    """Wait until each order is over or waits for a call that sleeps; what there is then."""
    async with asyncio.timeout(BUSY_S):
        while True:
            found: Found = Counter()
            async for one in client.invocations():
                found[f"{one.service}/{one.handler}", one.outcome or one.status] += 1
            alive = sum(number for (_, state), number in found.items() if state not in OUTCOMES)
            asleep = found["Shipping/deliver", "suspended"] + found["Payments/refund", "suspended"]
            if found["Order/place", "suspended"] == asleep and alive == 2 * asleep:
                return found
            await asyncio.sleep(0.5)


def show(found: Found) -> None:
    """The table."""
    states = ("suspended", *OUTCOMES)
    print(f"{'':16}" + "".join(f"{state:>11}" for state in states))
    for target in TARGETS:
        print(f"{target:16}" + "".join(f"{found[target, state] or '–':>11}" for state in states))


def all_accounted_for(found: Found, orders: int, killed: int) -> bool:
    """Whether no order hangs, and nothing was taken that is neither in use nor given back."""
    delivered = found["Shipping/deliver", "suspended"]
    cancelled, declined = found["Order/place", "cancelled"], found["Order/place", "failure"]
    return (
        found["Order/place", "suspended"] == delivered == orders - cancelled - declined
        and found["Order/place", "killed"] == found["Payments/refund", "killed"] == killed
        and found["Payments/refund", "success"] == cancelled + declined
        and found["Stock/reserve", "success"] - found["Stock/release", "success"] == delivered
    )


# -- orders ----------------------------------------------------------------------------------------------------


async def place(client: Client, numbers: range) -> None:
    """Place the orders with these numbers."""
    places = asyncio.Semaphore(AT_ONCE)

    async def place_one(number: int) -> None:
        bought = purchase(number)
        async with places:
            await client.start("Order/place", bought, idempotency_key=bought.number)

    await asyncio.gather(*map(place_one, numbers))


def purchase(number: int) -> Purchase:
    """Of twenty cards one is declined; of five banks one gives no money back."""
    return Purchase(
        number=f"{number:05}",
        item=ITEMS[number % len(ITEMS)],
        amount=10 + 5 * (number % 20),
        bank=BANKS[number % len(BANKS)],
    )


# -- processes -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(command: Sequence[str | Path], log: Path) -> Iterator[None]:
    """A process that ends with the block."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as started:
        try:
            yield
        finally:
            started.terminate()


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """`coordinator serve` on new data; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = Path(sys.executable).with_name("coordinator")
    with process([program, "serve", "--data", folder / "data", "--listen", address], folder / "server.log"):
        yield f"http://{address}"


async def answers(client: Client) -> None:
    """Wait until the server does."""
    async with asyncio.timeout(BUSY_S):
        while True:
            with contextlib.suppress(UnreachableError):
                await client.partitions()
                return
            await asyncio.sleep(0.1)


async def main(orders: int = 1_000, grace_s: float = 5.0) -> bool:
    """The day, with all that it needs."""
    with tempfile.TemporaryDirectory(prefix="coordinator-orders-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        if "COORDINATOR_URL" not in os.environ:  # which the participant reads, too
            os.environ["COORDINATOR_URL"] = running.enter_context(server(folder))
        running.enter_context(process([sys.executable, Path(__file__).with_name("services.py")], folder / "shop.log"))
        async with Client() as client:
            await answers(client)
            return await day(client, orders, grace_s)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(*map(int, sys.argv[1:]))))
