"""A participant whose invocations make a tree: `python -m tests.system.tree URL RECORD`.

Each has `FAN_OUT` children, and the last of them is detached. Leaves wait: those that hang on the root by calls for
longer than any test lasts, those below something detached until `Gate/open`. RECORD gets the ids of those that
compensate, in that order, a line each.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from coordinator.participant import Cancelled, Context, Service, run

DEPTH = 6
FAN_OUT = 5

tree = Service("Tree")
gate = Service("Gate")
_opened = asyncio.Event()


@tree.handler
async def grow(ctx: Context, place: tuple[int, bool]) -> None:
    """Have children, wait for them, and undo what it did when it is cancelled."""
    levels, detached = place
    try:
        if levels:
            ctx.send("Tree/grow", (levels - 1, True))
            await ctx.gather(*(ctx.call("Tree/grow", (levels - 1, detached)) for _ in range(FAN_OUT - 1)))
        elif detached:
            await ctx.call("Gate/wait", idempotency_key="the only one")
        else:
            await ctx.sleep("1d")
    except Cancelled:
        await ctx.run("undo", undo, ctx.id)
        raise


def undo(id: str) -> None:
    with Path(sys.argv[2]).open("a", encoding="utf-8") as record:
        record.write(f"{id}\n")


@gate.handler
async def wait(ctx: Context) -> None:
    """Wait until it is open."""
    await ctx.run("opened", opened)


async def opened() -> None:
    await _opened.wait()


@gate.handler(name="open")
async def open_(ctx: Context) -> None:
    """Let all pass."""
    _opened.set()


@contextlib.contextmanager
def participant(url: str, record: Path) -> Iterator[None]:
    """A process of it, until the block ends."""
    command = [sys.executable, "-m", "tests.system.tree", url, str(record)]
    with (
        record.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2]) as process,
    ):
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    run(tree, gate, url=sys.argv[1], inactivity="20ms")
