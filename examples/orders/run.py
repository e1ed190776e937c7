"""A day at the shop, with a server and a participant of its own, or with the server that COORDINATOR_URL names.

`python run.py [ORDERS] [GRACE_S]`: half of the orders are placed before noon and half after it. Those of the morning
are cancelled with one batch; those of them that hang in their compensation are killed when its grace is over, and
another batch restarts exactly these. In the end a table says what has become of everything. Exit code 1 if an order
got lost on the way.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from services import Purchase  # beside this file

from coordinator.client import Client, Filter, UnreachableError, cancel, restart_as_new

ITEMS: Final = ("chair", "lamp", "shelf", "table")
BANKS: Final = ("east", "north", "south", "west", "harbour")
AT_ONCE: Final = 20
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
UNDER_WAY: Final = ("pending", "ready", "running", "backing-off", "suspended")
OUTCOMES: Final = ("success", "failure", "cancelled", "killed")
Found = Counter[tuple[str, str]]
"""How many invocations there are of each handler in each status, or with each outcome."""


async def day(client: Client, orders: int, grace_s: float) -> bool:
    """Everything that happens; whether each order has come to where it belongs."""
    await place(client, range(orders // 2))
    noon = datetime.now(UTC)
    await place(client, range(orders // 2, orders))
    await come_to_rest(client)
    found = await count(client)
    print(f"{orders:,} orders are placed, {found['Order/place', 'failure']:,} declined; the others are being delivered")

    morning = Filter(service="Order", created_before=noon)
    grace = timedelta(seconds=grace_s)
    lorry = await client.submit(cancel(morning, grace=grace, reason="the lorry broke down"))
    asked = await lorry.wait()
    print(f"{asked.matched:,} of the morning are asked to cancel, and have {grace_s:g} s to do so")
    over = asked
    while not over.settled:
        await asyncio.sleep(0.1)
        over = await lorry.refresh()

    batch = await client.submit(restart_as_new(Filter(killed_by=lorry.id), reason="the lorry is repaired"))
    restarted = await batch.wait()
    print(f"{over.ended - restarted.matched:,} have done so; {restarted.matched:,} were killed when the time was over")
    print(f"{restarted.applied:,} of these are restarted as new\n")

    await come_to_rest(client)
    found = await count(client)
    show(found)
    return all_accounted_for(found, await units_held(client), orders, restarted.applied)


# -- what is there ---------------------------------------------------------------------------------------------


async def count(client: Client, filter: Filter | None = None) -> Found:
    """What there is now."""
    found: Found = Counter()
    async for one in client.invocations(filter):
        found[f"{one.service}/{one.handler}", one.outcome or one.status] += 1
    return found


async def come_to_rest(client: Client) -> None:
    """Wait until each order is over or waits for a call that sleeps."""
    under_way = Filter(status=UNDER_WAY)
    async with asyncio.timeout(BUSY_S):
        while True:
            found = await count(client, under_way)
            asleep = found["Shipping/deliver", "suspended"] + found["Payments/refund", "suspended"]
            if found["Order/place", "suspended"] == asleep and found.total() == 2 * asleep:
                return
            await asyncio.sleep(0.5)


async def units_held(client: Client) -> int:
    """How many units the stock holds for orders, as it says itself."""
    held = 0
    for item in ITEMS:
        asked = await client.start(f"Stock/{item}/reserved")
        held += len(await client.output(asked.id))
    return held


def show(found: Found) -> None:
    """The table."""
    states = ("suspended", *OUTCOMES)
    print(f"{'':16}" + "".join(f"{state:>11}" for state in states))
    for target in TARGETS:
        print(f"{target:16}" + "".join(f"{found[target, state] or '–':>11}" for state in states))


def all_accounted_for(found: Found, held: int, orders: int, restarted: int) -> bool:
    """Whether no order is lost or hangs, and nothing was taken that is neither in use nor given back."""
    delivered = found["Shipping/deliver", "suspended"]
    cancelled, declined = found["Order/place", "cancelled"], found["Order/place", "failure"]
    return (
        found["Order/place", "suspended"] == delivered == held == orders - cancelled - declined
        and found["Order/place", "killed"] == restarted
        and found["Payments/refund", "success"] >= cancelled + declined
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


async def main(orders: int = 1_000, grace_s: float = 10.0) -> bool:
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
