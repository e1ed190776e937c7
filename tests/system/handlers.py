"""A participant as a user would write one: `python -m tests.system.handlers URL DEPLOYMENT RECORD CAPACITY`.

RECORD is a file to which handlers write what they do outside, a line each. In deployment `dp_other` the handler
`Shop/changes` takes other steps than in any other.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coordinator.participant import Cancelled, Context, RetryPolicy, Service, VirtualObject, Workflow, run

shop = Service("Shop")
bank = Service("Bank", retry=RetryPolicy(initial="1h", maximum="1h", attempts=2))
hall = Service("Hall")
cart = VirtualObject("Cart")
desk = VirtualObject("Desk")
trip = Workflow("Trip")
parcel = Workflow("Parcel")


def record(text: str) -> None:
    with Path(sys.argv[3]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def gate(record: Path) -> Path:
    """The file that lets those go that hang."""
    return record.with_suffix(".gate")


# -- steps, deployments --------------------------------------------------------------------------------------


@shop.handler
async def pay(ctx: Context, number: int) -> int:
    record(f"paid {number}")
    return number


@shop.handler
async def buy(ctx: Context, number: int) -> list[int]:
    """Calls, runs, and hangs until it is let go or an attempt has failed."""
    paid = await ctx.call("Shop/pay", number)
    packed = await ctx.run("pack", pack, number)
    await ctx.run("hang", hang, ctx.retry)
    return [paid, packed]


async def pack(number: int) -> int:
    record(f"packed {number}")
    return number


async def hang(failed: int) -> None:
    record(f"failed {failed}")
    if not failed:
        while not gate(Path(sys.argv[3])).exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
        record("late")


@shop.handler
async def changes(ctx: Context) -> str:
    if sys.argv[2] == "dp_other":
        await ctx.run("other", hang, 1)
    else:
        await ctx.call("Shop/pay", 1)
    await ctx.sleep("700ms")
    return sys.argv[2]


@bank.handler
async def charge(ctx: Context) -> int:
    if ctx.attempt <= 2:
        raise OSError(f"away at attempt {ctx.attempt}")
    return ctx.attempt


# -- calls, sends, cancellation ------------------------------------------------------------------------------


@shop.handler
async def slow(ctx: Context) -> None:
    await ctx.sleep("1h")


@shop.handler
async def stubborn(ctx: Context) -> str:
    try:
        await ctx.sleep("1h")
    except Cancelled:
        await ctx.sleep("1ms")
    return "all the same"


@shop.handler
async def patient(ctx: Context) -> list[str]:
    work = ctx.call("Shop/slow")
    limit = ctx.sleep("300ms")
    if await ctx.race(work, limit) is limit:
        ctx.cancel(work.id)
    return [work.id, "too slow"]


@shop.handler
async def stop(ctx: Context, id: str) -> None:
    ctx.cancel(id)


@shop.handler
async def order(ctx: Context, number: int) -> list[str]:
    return [ctx.send("Shop/pay", number), ctx.send("Shop/pay", number + 1, delay="1s")]


@hall.handler
async def fill(ctx: Context, request: dict[str, Any]) -> None:
    """Send so many to a target, each with its number."""
    for number in range(request["count"]):
        ctx.send(request["target"], number)


@hall.handler
async def enter(ctx: Context, number: int) -> None:
    record(f"entered {number}")
    await asyncio.Event().wait()


# -- keys and their state ------------------------------------------------------------------------------------


@desk.handler
async def serve(ctx: Context, number: int) -> int:
    await ctx.run("begin", record, f"{ctx.key} begins {number}")
    await ctx.run("end", record, f"{ctx.key} ends {number}")
    return os.getpid()


@desk.handler
async def occupy(ctx: Context, number: int) -> None:
    record(f"occupied {number}")
    await asyncio.Event().wait()


@cart.handler
async def add(ctx: Context) -> Any:
    count = await ctx.get("count", 0) + 1
    ctx.set("count", count)
    return count


@cart.shared
async def count(ctx: Context) -> Any:
    return await ctx.get("count", 0)


@parcel.run
async def deliver(ctx: Context, nap: str) -> str:
    ctx.set("place", "under way")
    await ctx.sleep(nap)
    record(f"rang at {ctx.key}")
    ctx.set("place", "delivered")
    return f"signed by {ctx.key}"


@parcel.shared
async def place(ctx: Context) -> Any:
    return await ctx.get("place", "nowhere")


@trip.run
async def book(ctx: Context, depth: int) -> None:
    """A tree of two children on each level, each of which undoes what it did after they have."""
    ctx.set("state", "booking")
    try:
        if depth == 0:
            await ctx.sleep("1h")
        await ctx.gather(*(ctx.call(f"Trip/{ctx.key}.{number}/book", depth - 1) for number in range(2)))
    except Cancelled:
        ctx.set("state", "undone")
        await ctx.run("undo", record, f"undone {ctx.key}")
        raise


@trip.shared
async def state(ctx: Context) -> Any:
    return await ctx.get("state", "none")


# -- as a process --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def handlers(
    url: str, record: Path, deployment: str = "dp_1", *, capacity: int = 1_000
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process of it, until the block ends or it is killed."""
    command = [sys.executable, "-m", "tests.system.handlers", url, deployment, str(record), str(capacity)]
    root = Path(__file__).resolve().parents[2]
    with record.with_suffix(f".{deployment}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    services = (shop, bank, hall, cart, desk, trip, parcel)
    run(*services, url=sys.argv[1], deployment=sys.argv[2], capacity=int(sys.argv[4]))
