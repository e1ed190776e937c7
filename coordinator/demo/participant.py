"""The participant: a process of its own that runs what the live traffic starts.

`python -m coordinator.demo.participant URL` serves until its standard input ends. A greeting pauses before it greets,
and is suspended meanwhile; so the service that is swept has live invocations in each status that the command names,
and when they come due they are delivered here, unless the command has ended them.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from coordinator.demo.parent import when_gone
from coordinator.participant import Context, Service, VirtualObject, run

DEPLOYMENT: Final = "dp_demo"
"""Another one than the imported invocations are pinned to: those wait for theirs, as anywhere after a deployment."""


class Live(msgspec.Struct):
    """The input of the live traffic."""

    pause_ms: int = 0


greeter = Service("Greeter")
cart = VirtualObject("CartObject")
payments = Service("PaymentService")


@greeter.handler
async def greet(ctx: Context, live: Live) -> str:
    """Greet, after a pause."""
    if live.pause_ms:
        await ctx.sleep(live.pause_ms / 1_000)
    return "Hello"


@cart.handler
async def add(ctx: Context) -> int:
    """Put one more in; how many there are."""
    items = int(await ctx.get("items", 0)) + 1
    ctx.set("items", items)
    return items


@payments.handler
async def refund(ctx: Context) -> None:
    """Stands for a request to a bank."""
    await ctx.run("refund", lambda: None)


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    (url,) = arguments
    when_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run(greeter, cart, payments, url=url, deployment=DEPLOYMENT)


if __name__ == "__main__":
    main(sys.argv[1:])
