"""How large ticks become, from how long they took."""

from coordinator.model import limits
from coordinator.runtime.sizer import TickSizer


def live(at_us: int = 0) -> TickSizer:
    sizer = TickSizer()
    sizer.saw_command(at_us)
    return sizer


def test_ticks_that_fire_a_timer_or_two_do_not_make_the_first_one_of_a_batch_the_largest() -> None:
    sizer = live()
    first = sizer.tick(1, 0).sweep
    for number in range(2, 50):
        sizer.took(100, 0, filled=False)
        assert sizer.tick(number, 0).sweep == first


def test_a_tick_that_did_all_it_might_and_was_fast_makes_the_next_one_larger() -> None:
    sizer = live()
    first = sizer.tick(1, 0).sweep
    sizer.took(100, 0, filled=True)
    assert sizer.tick(2, 0).sweep == 2 * first


def test_a_slow_tick_makes_the_next_one_smaller_whatever_it_did() -> None:
    for filled in (False, True):
        sizer = live()
        first = sizer.tick(1, 0).sweep
        sizer.took(1_000_000, 0, filled=filled)
        assert sizer.tick(2, 0).sweep == first // 2


def test_ticks_stay_within_the_limits_and_never_ask_for_nothing() -> None:
    for took_us in (1, 1_000_000_000):
        sizer = live()
        for number in range(1, 100):
            tick = sizer.tick(number, 0)
            assert 1 <= tick.sweep <= limits.TICK_SWEEP_MAX
            assert 1 <= tick.single <= limits.TICK_SINGLE_MAX
            assert 1 <= tick.timers <= limits.TICK_TIMERS_MAX
            assert 1 <= tick.work <= limits.TICK_WORK_MAX
            sizer.took(took_us, 0, filled=True)


def test_live_commands_get_as_much_time_as_ticks_and_nobody_waits_without_them() -> None:
    sizer = live()
    sizer.tick(1, 0)
    sizer.took(1_500, 10_000, filled=True)
    assert sizer.pause_us(10_000) == 1_500
    assert TickSizer().pause_us(10_000) == 0
