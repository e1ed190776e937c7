"""Every bound of the system, by name, in one place.

What exceeds a limit is refused, queued or clamped; it is never let through. Bounds that influence the
outcome of `apply` are constants of schema level 1: changing one of them needs a new level, or the same log
would no longer give the same bytes.

Units stand last in the names: `_us` microseconds, `_bytes`, `_max` a count.
"""

from typing import Final

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
DAY_US: Final = 24 * HOUR_US

# -- the log -----------------------------------------------------------------------------------------------
PARTITIONS_MAX: Final = 256
RECORD_BYTES_MAX: Final = 512 * 1024
REQUEST_BYTES_MAX: Final = 64 * 1024
REQUEST_RECORD_BYTES_MAX: Final = REQUEST_BYTES_MAX + 4 * 1024
"""A record on `requests`: a request's body and what the server adds to it."""
LOG_VALUE_BYTES_MAX: Final = 1024 * 1024
"""What a log accepts; a value above RECORD_BYTES_MAX becomes a dead letter at its position."""
SCHEMA_LEVEL: Final = 1
"""The newest schema level that this build knows."""

# -- a step of the partition machine -------------------------------------------------------------------------
ROWS_PER_RECORD_MAX: Final = 16
"""Rows that one record may touch inline; whatever follows beyond that becomes work items."""
TICK_SWEEP_MAX: Final = 10_000
"""Candidates of a batch that one tick may decide in a set-based statement."""
TICK_SINGLE_MAX: Final = 500
"""Candidates of a batch that one tick may decide row by row."""
TICK_TIMERS_MAX: Final = 500
TICK_WORK_MAX: Final = 500
OUTBOX_PER_ROW_MAX: Final = 4
"""What touching one row may send at most: tell a parent, drop, start, and a progress of its batch."""
CHILDREN_PER_RECORD_MAX: Final = 16
"""Children named in one message to another partition, which touches that many rows there."""
CALLS_PER_REPORT_MAX: Final = 16
CALL_BYTES_MAX: Final = RECORD_BYTES_MAX - 32 * 1024
"""Input and headers of one call; with its names and keys the invoke record stays below its limit."""

# -- batches -------------------------------------------------------------------------------------------------
PENDING_BATCHES_MAX: Final = 64
FILTER_IDS_MAX: Final = 1_000
NOT_AFTER_US: Final = DAY_US
RATE_INTERVAL_US: Final = SECOND_US // 10
"""How often an owner looks whether a batch's rate allows more."""
REMEMBERED_US: Final = 7 * DAY_US
PROGRESS_INTERVAL_US: Final = SECOND_US // 2
PREPARED_US: Final = 600 * SECOND_US
"""How long a guarded request may stay prepared without a decision."""
ACTIVE_REQUESTS_MAX: Final = 64
RESEND_US: Final = 5 * SECOND_US
"""After this long without an answer a command is sent to a partition again."""
STALLED_US: Final = 10 * SECOND_US
"""After this long of silence a partition that owes progress is shown as stalled."""

# -- invocations ---------------------------------------------------------------------------------------------
RETENTION_DEFAULT_US: Final = DAY_US
CHILDREN_MAX: Final = 100_000
DEPTH_MAX: Final = 10_000
DELIVERIES_MAX: Final = 1_000
"""Deliveries of one partition that no participant has answered yet."""
NAME_CHARS_MAX: Final = 256
"""Characters of a service, handler, deployment or request id."""
KEY_CHARS_MAX: Final = 1_024
"""Characters of a key or an idempotency key."""
FAILURE_CHARS_MAX: Final = 4_096

# -- the runtime ---------------------------------------------------------------------------------------------
RUN_RECORDS_MAX: Final = 500
RUN_BYTES_MAX: Final = 4 * 1024 * 1024
OUTBOX_UNPUBLISHED_MAX: Final = 100_000
TICKS_OUTSTANDING_MAX: Final = 4
CLOCK_SKEW_US: Final = 60 * SECOND_US
"""An owner whose clock is further than this from the log's appends no ticks."""

# -- the HTTP surface ----------------------------------------------------------------------------------------
LIST_PAGE_MAX: Final = 10_000
"""Invocations or batches of one page of a listing; without a limit all are listed, and invocations streamed."""
COUNT_MAX: Final = 2**53 - 1
"""The largest number in a body: whole in every language that reads JSON."""
