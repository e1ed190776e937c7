"""A participant written with the library, whose handlers wait, and take a cancellation in different ways.

`python -m tests.system.compensating`, with the server in COORDINATOR_URL.
"""

import asyncio

from coordinator.participant import Cancelled, Context, Service, run

jobs = Service("Job")


@jobs.handler
async def give_in(ctx: Context) -> None:
    """Ends when it is asked to."""
    await ctx.sleep("1h")


@jobs.handler
async def compensate_for_ever(ctx: Context) -> None:
    """Hangs in its compensation."""
    try:
        await ctx.sleep("1h")
    except Cancelled:
        await ctx.sleep("1h")
        raise


@jobs.handler
async def call_one_that_hangs(ctx: Context) -> None:
    """Waits for one that does."""
    await ctx.call("Job/compensate_for_ever")


@jobs.handler
async def never_wait(ctx: Context) -> None:
    """Holds its attempt and never awaits the context, so nothing surfaces."""
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(jobs)
