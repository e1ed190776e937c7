"""A participant that writes down what it runs: `python -m tests.system.busy URL RECORD`.

RECORD is a file to which each handler, before anything else, writes the id of its invocation and the attempt.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from coordinator.participant import Context, Service, run

BUSY = "Busy"
busy = Service(BUSY)


def note(ctx: Context) -> None:
    with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
        file.write(f"{ctx.id} {ctx.attempt}\n")


def noted(record: Path) -> set[tuple[str, int]]:
    """The attempts that were run."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return {(id, int(attempt)) for id, attempt in map(str.split, lines)}


@busy.handler
async def quick(ctx: Context) -> str:
    note(ctx)
    return "done"


@busy.handler
async def sleeps(ctx: Context) -> None:
    note(ctx)
    await ctx.sleep("2s")


@busy.handler
async def calls(ctx: Context) -> list[str]:
    note(ctx)
    return await ctx.gather(*(ctx.call(f"{BUSY}/quick") for _ in range(3)))


@contextlib.contextmanager
def participant(url: str, record: Path) -> Iterator[None]:
    """A process of it, until the block ends."""
    command = [sys.executable, "-m", "tests.system.busy", url, str(record)]
    with record.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).resolve().parents[2])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run(busy, url=sys.argv[1], capacity=100)
