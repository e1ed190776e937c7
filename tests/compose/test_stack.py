"""The whole of docker-compose.yml at work, as processes on a broker with Kafka's settings of the file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.client import Client, Filter, kill
from tests.compose.stack import PATIENCE_S, Stack
from tests.system.server import eventually


@pytest.fixture
def stack(own_brokers: None, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_it_comes_up_runs_handlers_ends_batches_and_stops_in_order(stack: Stack) -> None:
    url = f"http://{stack.addresses['api']}"
    asyncio.run(_use(url))
    workers = {stack.addresses[name] for name in ("worker-1", "worker-2")}
    eventually(lambda: set(asyncio.run(_owners(url))) == workers, within_s=60, says=lambda: stack.said("api"))
    serving = ["shop", "api", "coordinator", "worker-1", "worker-2"]
    assert {name: stack.stop(name) for name in serving} == dict.fromkeys(serving, 0)


async def _use(url: str) -> None:
    """Have the participant complete an invocation, and a batch end another that the participant has suspended."""
    purchase = {"number": "00001", "item": "chair", "amount": 10, "bank": "east"}
    async with Client(url) as client:
        placed = await client.start("Order/place", purchase)
        async with asyncio.timeout(PATIENCE_S):
            await _on_its_way(client)
        reserved = await client.start("Stock/chair/reserved")
        assert await client.output(reserved.id) == ["00001"]
        batch = await client.submit(kill(Filter(service="Order"), reason="an example"))
        ended = await batch.wait()
        assert (ended.state, ended.matched, ended.ended) == ("completed", 1, 1)
        assert (await client.invocation(placed.id)).outcome == "killed"


async def _on_its_way(client: Client) -> None:
    """The order's delivery sleeps."""
    while True:
        async for _ in client.invocations(Filter(service="Shipping", status="suspended")):
            return
        await asyncio.sleep(0.1)


async def _owners(url: str) -> list[str | None]:
    async with Client(url) as client:
        return [one.owner for one in await client.partitions()]
