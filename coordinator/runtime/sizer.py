"""How large the next tick may be, from how long the last ones computed.

A tick should take about 10 ms when the partition is otherwise idle and about 2 ms while live commands come
in, because a command that arrives during a tick waits for its end. The quotas of all kinds of work share one
scale that follows the measured time by halves, so that one odd measurement does little. A tick that found less to
do than it might have done says nothing about larger ones: taken for a fast one, the many that fire a timer or two
would raise the scale to its end, and the first tick of a batch would stand in the way of live commands for as long
as the largest takes.

Computed, and not lasted: on a busy machine a thread loses its CPU in the midst of a tick, which smaller ticks would
not help. Sized by what a clock on the wall says, they shrink to a few rows each, and a batch takes ten times as long.

The choice needs no determinism: it goes through the log with the tick.
"""

from typing import Final

from coordinator.model import limits
from coordinator.model.messages import Tick

ALONE_US: Final = 10_000
LIVE_US: Final = 2_000
LIVE_FOR_US: Final = 100_000
"""A partition counts as live for this long after a command that was not a tick."""
_SMALLEST: Final = 1 / 256


class TickSizer:
    """Follows the cost of ticks on one partition. Its times are of one monotonic clock, in microseconds."""

    def __init__(self) -> None:
        self._scale = {True: 1 / 8, False: 1 / 4}
        self._last_command_us: int | None = None
        self._for_live = False
        self._next_us = 0

    def saw_command(self, now_us: int) -> None:
        """A live command was applied."""
        self._last_command_us = now_us

    def live(self, now_us: int) -> bool:
        """Whether live commands have to be expected."""
        return self._last_command_us is not None and now_us - self._last_command_us < LIVE_FOR_US

    def pause_us(self, now_us: int) -> int:
        """How long the next tick has to wait: while commands come in, they get as much time as ticks do."""
        return self._next_us - now_us if self.live(now_us) else 0

    def tick(self, number: int, now_us: int) -> Tick:
        """The next tick."""
        self._for_live = self.live(now_us)
        scale = self._scale[self._for_live]
        return Tick(
            tick=number,
            sweep=max(1, int(limits.TICK_SWEEP_MAX * scale)),
            single=max(1, int(limits.TICK_SINGLE_MAX * scale)),
            timers=max(1, int(limits.TICK_TIMERS_MAX * scale)),
            work=max(1, int(limits.TICK_WORK_MAX * scale)),
        )

    def took(self, duration_us: int, now_us: int, *, filled: bool) -> None:
        """The tick handed out last took this much CPU time to apply and commit, and is over now.

        `filled`: whether it stopped at one of its quotas, rather than for want of work.
        """
        wanted = LIVE_US if self._for_live else ALONE_US
        factor = min(4.0 if filled else 1.0, max(0.25, wanted / max(duration_us, 1)))
        scale = self._scale[self._for_live] * factor**0.5
        self._scale[self._for_live] = min(1.0, max(_SMALLEST, scale))
        self._next_us = now_us + duration_us
