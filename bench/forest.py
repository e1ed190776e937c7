"""A participant whose trees wait until they are cancelled, and compensate then: `python -m bench.forest URL`."""

import sys
from typing import Any

from coordinator.participant import Cancelled, Context, Service, run

forest = Service("Forest")
tree = Service("Tree")
leaf = Service("Leaf")
_undone = 0


@forest.handler
async def plant(ctx: Context, count: int) -> int:
    """Start so many trees."""
    for _ in range(count):
        ctx.send("Tree/grow")
    return count


@forest.handler
async def undone(ctx: Context, _: Any) -> int:
    """How many compensations have run."""
    return _undone


@tree.handler
async def grow(ctx: Context, _: Any) -> None:
    """Wait for a leaf."""
    try:
        await ctx.call("Leaf/hang")
    except Cancelled:
        await ctx.run("undo", _undo)
        raise


@leaf.handler
async def hang(ctx: Context, _: Any) -> None:
    """Wait for long."""
    try:
        await ctx.sleep("1d")
    except Cancelled:
        await ctx.run("undo", _undo)
        raise


def _undo() -> None:
    global _undone  # noqa: PLW0603 - this process is the one that runs them all
    _undone += 1


if __name__ == "__main__":
    run(forest, tree, leaf, url=sys.argv[1])
