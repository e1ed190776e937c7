"""Async tests without a plugin."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

PATIENCE_S = 30


def in_a_loop(test: Any) -> Any:
    """An async test, in a loop of its own, with an end to patience."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await test(*arguments, **named)

        asyncio.run(within())

    return run
