"""A whole system in one process: server, workers' log and stores, and the handlers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.model.errors import ConflictError
from coordinator.model.statuses import Action
from coordinator.participant import Cancelled, Context, Service, VirtualObject, serve
from coordinator.runtime.dispatch.in_process import InProcess
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.serve import running

greeter = Service("Greeter")
counter = VirtualObject("Counter")
undone: list[str] = []


@greeter.handler
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}, visit {await ctx.call(f'Counter/{name}/visit')}"


@greeter.handler
async def wait(ctx: Context, _: None) -> None:
    try:
        await ctx.sleep("1h")
    except Cancelled:
        await ctx.run("undo", lambda: undone.append(ctx.id))
        raise


@counter.handler
async def visit(ctx: Context, _: None) -> int:
    visits: int = (await ctx.get("visits") or 0) + 1
    ctx.set("visits", visits)
    return visits


def test_handlers_run_in_the_process_of_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(DataDirectory(tmp_path / "data"), 2) as gateway:
            serving = asyncio.create_task(serve(greeter, counter, transport=InProcess(gateway), deployment="dp_1"))
            while not gateway.deployments() or gateway.unowned:  # noqa: ASYNC110 - neither is an event to others
                await asyncio.sleep(0.01)
            said = []
            for _ in range(2):
                started = await gateway.start_invocation("Greeter", "greet", input=b'"Ann"')
                said.append((await gateway.ending(started.id or "", timeout_s=20)).output)
            assert said == [b'"Hello Ann, visit 1"', b'"Hello Ann, visit 2"']
            waiting = await gateway.start_invocation("Greeter", "wait")
            await gateway.act(Action.CANCEL, waiting.id or "")
            assert (await gateway.ending(waiting.id or "", timeout_s=20)).invocation.outcome == "cancelled"
            assert undone == [waiting.id]
            other = Service("Other")
            other.handler(greet)
            with pytest.raises(ConflictError):
                await serve(other, transport=InProcess(gateway), deployment="dp_1")
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(scenario())
