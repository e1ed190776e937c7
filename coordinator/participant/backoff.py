"""Growing pauses with jitter, so that participants do not come back all at once."""

import asyncio
import random
from typing import Final

_MIN_S: Final = 0.05
_MAX_S: Final = 5.0


class Backoff:
    """The pauses between tries of one thing."""

    def __init__(self) -> None:
        self._pause_s = _MIN_S

    def succeeded(self) -> None:
        """What fails next is the first failure."""
        self._pause_s = _MIN_S

    async def pause(self) -> None:
        """Wait before the next try."""
        jittered = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        self._pause_s = min(2 * self._pause_s, _MAX_S)
        await asyncio.sleep(jittered)
