"""The services of a small shop, as one participant process: `python services.py` runs their handlers.

An order pays, reserves and ships. When it is cancelled, or one of these fails, it undoes them in reverse, with
ordinary `except` code. Every call and its result is durable: kill this process at any moment, start it again, and each
order goes on where it was.
"""

from typing import Final

import msgspec

from coordinator.participant import Context, Service, TerminalError, VirtualObject, run

CARD_LIMIT: Final = 100
CLOSED_BANK: Final = "south"


class Purchase(msgspec.Struct):
    """What an order is about."""

    number: str
    item: str
    amount: int
    bank: str


order = Service("Order")
payments = Service("Payments")
stock = VirtualObject("Stock")
shipping = Service("Shipping")


@order.handler
async def place(ctx: Context, purchase: Purchase) -> None:
    """An order from its payment to its delivery. Placed again under the same number, it pays and reserves once."""
    undo = []
    try:
        # Noted before the call: the cancellation may surface while it is awaited, and the call may have ended by then.
        undo.append("Payments/refund")
        await ctx.call("Payments/charge", purchase)
        undo.append(f"Stock/{purchase.item}/release")
        await ctx.call(f"Stock/{purchase.item}/reserve", purchase)
        await ctx.call("Shipping/deliver", purchase)
    except TerminalError:  # the order is cancelled, or a call has failed
        for compensation in reversed(undo):
            await ctx.call(compensation, purchase)
        raise


@payments.handler
async def charge(ctx: Context, purchase: Purchase) -> None:
    """Take the money."""
    await ctx.run("charge the card", ask_for_money, purchase)


@payments.handler
async def refund(ctx: Context, purchase: Purchase) -> None:
    """Give back what was taken, if anything was. A bank that is closed is asked again every hour."""
    while not await ctx.run("refund the card", give_back, purchase):
        await ctx.sleep("1h")


def ask_for_money(purchase: Purchase) -> None:
    """Stands for a request to the bank, which takes the money of an order number once."""
    if purchase.amount > CARD_LIMIT:
        raise TerminalError(f"the card is declined: {purchase.amount} is beyond its limit")


def give_back(purchase: Purchase) -> bool:
    """Stands for another one: whether the bank is open and has done it."""
    return purchase.bank != CLOSED_BANK


@stock.handler
async def reserve(ctx: Context, purchase: Purchase) -> None:
    """Hold a unit of the item. One order at a time does so, whatever else goes on."""
    ctx.set("reserved", sorted({*await ctx.get("reserved", []), purchase.number}))


@stock.handler
async def release(ctx: Context, purchase: Purchase) -> None:
    """Let it go, if it is held."""
    ctx.set("reserved", [number for number in await ctx.get("reserved", []) if number != purchase.number])


@stock.shared
async def reserved(ctx: Context) -> list[str]:
    """The orders that hold a unit."""
    return list(await ctx.get("reserved", []))


@shipping.handler
async def deliver(ctx: Context, _purchase: Purchase) -> None:
    """A parcel takes its time. Order and delivery are suspended meanwhile, and no process has to wait."""
    await ctx.sleep("2h")


if __name__ == "__main__":
    run(order, payments, stock, shipping)
