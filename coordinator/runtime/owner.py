"""The loop that owns one partition: bounded run → apply → one commit → tell → publish → tick.

`PartitionOwner.run` is the whole of it. Everything it does after the commit may be lost in a crash and is
done again: publishing starts over at the lowest unacknowledged number, a tick that was not applied is
appended again or is a no-op, and who waits for an answer that was lost is told so.

It ends when it is stopped, and loudly on corruption, which a person must look at. After a transient fault
it takes over anew from what the store and the log hold, with backoff. So it does when the log is trimmed ahead of it,
and ends only if there is no snapshot then from which it could go on.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import xxhash

from coordinator.logs.port import (
    Bounds,
    Entry,
    Log,
    LogError,
    LogGoneError,
    LogReplacedError,
    Record,
    Stream,
    TrimmedError,
)
from coordinator.model import limits, messages
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.partition import ticks
from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Answer
from coordinator.runtime.clock import Clock, monotonic_us, thread_cpu_us, wall_clock_us
from coordinator.runtime.publisher import Publisher
from coordinator.runtime.sizer import TickSizer
from coordinator.stores.port import Store

_IDLE_US: Final = limits.SECOND_US
_TICK_TIMEOUT_US: Final = 5 * limits.SECOND_US
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

OnApplied = Callable[[int, int, Sequence[Answer]], None]
"""Called after each commit: partition, position applied up to, the answers of the run."""


def _to_nobody(partition: int, position: int, answers: Sequence[Answer]) -> None:
    pass


class PartitionOwner:
    """Applies one partition's log to its store, alone."""

    def __init__(
        self,
        log: Log,
        open_store: Callable[[], Store],
        partition: int,
        *,
        on_applied: OnApplied = _to_nobody,
        on_taken_over: Callable[[], None] = lambda: None,
        now_us: Clock = wall_clock_us,
    ) -> None:
        self.partition: Final = partition
        self.failure: str | None = None
        """Why the partition stands still, once it does."""
        self.took_over = False
        """Whether it has begun to apply."""
        self.position = -1
        """Applied and committed up to here, once it has taken over."""
        self.records = 0
        self.ticks = 0
        self.longest_step_us = 0
        self._log = log
        self._open_store = open_store
        self._on_applied = on_applied
        self._on_taken_over = on_taken_over
        self._now_us = now_us
        self._stopping = threading.Event()
        self._caught_up_at = 0
        self._appended_tick = 0
        self._awaited_since_us = 0
        self._lags = False
        self._said_skewed = False
        self._publisher = Publisher(log, partition)
        self._logger = structlog.get_logger().bind(partition=partition)

    @property
    def unpublished(self) -> int:
        """How many entries of its outbox the log has not acknowledged."""
        return self._publisher.unpublished

    @property
    def behind(self) -> int:
        """How many of the records that it found when it took over are not applied yet."""
        return max(0, self._caught_up_at - self.position - 1)

    def stop(self) -> None:
        """Ask the loop to end after the step it is in."""
        self._stopping.set()

    # -- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Own the partition until stopped; returns with `failure` set when it cannot go on."""
        faults = 0
        trimmed_below = 0
        while not self._stopping.is_set():
            try:
                store = self._open_store()
                try:
                    with store.errors():
                        self._take_over(store)
                        while not self._stopping.is_set():
                            self._step()
                            faults = 0
                finally:
                    store.close()
            except LogGoneError:
                return
            except TrimmedError as error:
                if error.first == trimmed_below:
                    return self._fail(_missing(self.partition, error.start - 1, error.first))
                # Whoever owned it before may have finished a snapshot meanwhile: whoever opens the store looks for it.
                trimmed_below = error.first
                self._logger.warning("log trimmed ahead of the store, taking over anew", first=error.first)
            except (CorruptionError, LogReplacedError) as error:
                return self._fail(str(error))
            except (TransientError, LogError, OSError) as error:
                pause = _BACKOFF_S[min(faults, len(_BACKOFF_S) - 1)]
                faults += 1
                self._logger.warning("transient fault, taking over anew", reason=str(error), after_s=pause)
                self._stopping.wait(pause)
            except Exception as error:
                self._logger.exception("defect")
                return self._fail(f"{type(error).__name__}: {error}")

    def _step(self) -> None:
        records = self._read()
        self._lags = len(records) == limits.RUN_RECORDS_MAX
        if records:
            self._tick_ahead(len(records))
            self._apply(records)
        self._publisher.settle()
        wait_us = self._tick_if_wanted()
        if not records and wait_us > 0:
            position = self._machine.state.position + 1
            self._log.wait(Stream.COMMANDS, self.partition, position, wait_us / 1e6)

    def _read(self) -> list[Record]:
        return self._log.read(
            Stream.COMMANDS,
            self.partition,
            self._machine.state.position + 1,
            records_max=limits.RUN_RECORDS_MAX,
            bytes_max=limits.RUN_BYTES_MAX,
        )

    def _apply(self, records: Sequence[Record]) -> None:
        """One bounded run in one transaction; what it sends and answers leaves after the commit."""
        machine, store = self._machine, self._store
        answers: list[Answer] = []
        began_us, began_cpu_us = monotonic_us(), thread_cpu_us()
        ticked = ticks_us = 0
        filled = False
        store.begin()
        self._publisher.trim(store)
        for record in records:
            tick, at_us = machine.state.tick, thread_cpu_us()
            answer = machine.apply(record)
            if answer is not None:
                answers.append(answer)
            if machine.state.tick != tick:
                ticked += 1
                ticks_us += thread_cpu_us() - at_us
                filled = filled or machine.tick_filled
        applied_us = thread_cpu_us()
        machine.finish_run(records[-1])
        store.commit()
        committed_us, ended_us = thread_cpu_us(), monotonic_us()
        self.position = machine.state.position
        self._on_applied(self.partition, machine.state.position, answers)
        self.records += len(records)
        self.ticks += ticked
        self.longest_step_us = max(self.longest_step_us, ended_us - began_us)
        if ticked:
            # A tick's part of the commit is taken to be its part of the applying.
            commit_us = (committed_us - applied_us) * ticks_us // max(applied_us - began_cpu_us, 1)
            self._sizer.took((ticks_us + commit_us) // ticked, ended_us, filled=filled)
        if len(records) > ticked:
            self._sizer.saw_command(ended_us)
        self._publisher.publish(machine.take_outgoing())  # last: it may wait, or fail, and all above is true by now

    # -- ticks -----------------------------------------------------------------------------------------------

    def _tick_if_wanted(self) -> int:
        """Append the next tick when there is work for one; how long to wait at most, in microseconds."""
        machine = self._machine
        now = self._now_us()
        if machine.state.position + 1 < self._caught_up_at or self._skewed(now):
            return _IDLE_US
        outstanding = self._appended_tick - machine.state.tick
        if outstanding > 0 and not self._may_append_another(outstanding, now):
            return _IDLE_US
        due = ticks.next_due(machine, now)
        if due is None:
            return _IDLE_US
        wait_us = max(due - now, self._sizer.pause_us(monotonic_us()))
        if wait_us > 0:
            return min(wait_us, _IDLE_US)
        self._append_tick(now)
        return _IDLE_US

    def _append_tick(self, now: int) -> None:
        number = max(self._appended_tick, self._machine.state.tick) + 1
        tick = self._sizer.tick(number, monotonic_us())
        self._log.submit([Entry(Stream.COMMANDS, self.partition, messages.encode(tick))])
        self._appended_tick, self._awaited_since_us = number, now

    def _tick_ahead(self, records: int) -> None:
        """Before applying a tick that is alone, append the one after it: the log syncs it while this one works."""
        machine = self._machine
        alone = records == 1 and self._appended_tick == machine.state.tick + 1
        if alone and not self._sizer.live(monotonic_us()) and ticks.sweeps_on(machine):
            self._append_tick(self._now_us())

    def _may_append_another(self, outstanding: int, now: int) -> bool:
        """Beside a tick that was not applied yet: under lag, or when it seems lost; then its number repeats.

        That there is lag shows in a run that is as long as runs get. Where the log ends is asked only of a tick that is
        late: on Kafka it takes two round trips, after which whoever sends a command waits for the next run.
        """
        if now - self._awaited_since_us > _TICK_TIMEOUT_US:
            self._awaited_since_us = now
            if self._log.bounds(Stream.COMMANDS, self.partition).end == self._machine.state.position + 1:
                self._appended_tick = self._machine.state.tick
                return True
        return self._lags and outstanding < limits.TICKS_OUTSTANDING_MAX

    def _skewed(self, now: int) -> bool:
        """Whether this machine's clock is too far from the log's to judge what is due; says so once."""
        skewed = self._machine.state.now - now > limits.CLOCK_SKEW_US
        if skewed and not self._said_skewed:
            self._logger.error(
                "no ticks are appended: this machine's clock is more than a minute behind the log's; set it",
                log_us=self._machine.state.now,
                clock_us=now,
            )
        self._said_skewed = skewed
        return skewed

    # -- take-over -------------------------------------------------------------------------------------------

    def _take_over(self, store: Store) -> None:
        """Resume from the store, after seeing that it belongs to this log, and publish what it still holds."""
        log, partition = self._log, self.partition
        store.begin()
        machine = Machine(store, partition=partition, partitions=log.partitions(Stream.COMMANDS), log=log.identity)
        store.commit()
        bounds = log.bounds(Stream.COMMANDS, partition)
        verify_position(log, machine, bounds)
        self._store, self._machine = store, machine
        self._sizer = TickSizer()
        self._caught_up_at = bounds.end
        self.position = machine.state.position
        self._appended_tick, self._awaited_since_us = machine.state.tick, 0
        self._said_skewed = False
        store.begin()
        self._publisher.publish_stored(store)
        store.commit()
        self.took_over = True
        self._on_taken_over()
        self._logger.info("partition taken over", position=machine.state.position, end=bounds.end)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self._logger.critical("partition stopped; nothing was skipped", reason=reason)


def _missing(partition: int, position: int, first: int) -> str:
    return (
        f"partition {partition} is applied up to position {position} but its log begins at {first}: records are "
        f"missing; start again with --snapshots, which names where there is one of position {first - 1} or later, or "
        "move the store away and put one there with coordinator snapshot restore"
    )


def verify_position(log: Log, machine: Machine, bounds: Bounds) -> None:
    """Raise TrimmedError unless the log reaches back to the store, CorruptionError unless it reaches as far and has its
    last record.
    """
    partition, position = machine.state.partition, machine.state.position
    if bounds.first > position + 1:
        raise TrimmedError(Stream.COMMANDS, partition, position + 1, bounds.first)
    if bounds.end <= position:
        raise CorruptionError(
            f"partition {partition} is applied up to position {position} but its log ends at {bounds.end - 1}: "
            "the log has lost records or was replaced; restore the log that belongs to this store"
        )
    if bounds.first <= position:
        record = log.read(Stream.COMMANDS, partition, position, records_max=1, bytes_max=1)[0]
        if xxhash.xxh3_64_intdigest(record.value) != machine.state.digest:
            raise CorruptionError(
                f"the record at position {position} of partition {partition} is not the one that was applied; "
                "the log was replaced: restore the log that belongs to this store"
            )
