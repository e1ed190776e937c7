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
STEPS_PER_REPORT_MAX: Final = 16
AWAITED_MAX: Final = 64
"""Steps that a suspended invocation may wait for the first of."""
STEPS_MAX: Final = 200_000
"""Steps of one invocation."""
CONTEXT_ENTRIES_MAX: Final = 256
CONTEXT_BYTES_MAX: Final = 256 * 1024
"""Journal and state that one delivery carries, but for one entry that is larger; more follows in others."""
LANES_MAX: Final = 4_096
"""Lanes that are served at once."""
CALL_BYTES_MAX: Final = RECORD_BYTES_MAX - 32 * 1024
"""Input and headers of one call, and any one result; with names and keys their records stay below the limit."""

# -- batches -------------------------------------------------------------------------------------------------
PENDING_BATCHES_MAX: Final = 64
FILTER_IDS_MAX: Final = 1_000
GRACE_MAX_US: Final = 7 * DAY_US
"""Of a cancel; so it is over before partitions forget the batch."""
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
DELIVERIES_MAX: Final = 500
"""Deliveries of one lane of a partition that no participant has answered yet."""
NAME_CHARS_MAX: Final = 256
"""Characters of a service, handler, deployment or request id."""
KEY_CHARS_MAX: Final = 1_024
"""Characters of a key or an idempotency key."""
FAILURE_CHARS_MAX: Final = 4_096

# -- participants --------------------------------------------------------------------------------------------
DEPLOYMENTS_MAX: Final = 4_096
SERVICES_MAX: Final = 256
"""Services of one deployment."""
HANDLERS_MAX: Final = 256
"""Handlers of one service."""
RETENTION_MAX_US: Final = 365_000 * DAY_US
"""A thousand years."""
SESSIONS_MAX: Final = 4_096
"""Participants that are connected at once."""
SESSION_CAPACITY_MAX: Final = 10_000
"""Attempts that one participant takes at once."""
LEASE_US: Final = 10 * SECOND_US
"""A participant that is silent for so long has vanished."""
KEEP_ALIVE_US: Final = SECOND_US
"""How often a stream of deliveries shows that it lives."""
REPORTS_MAX: Final = 4_096
"""Reports in one request."""
REPORTS_BYTES_MAX: Final = 4 * 1024 * 1024

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
OUTPUT_WAIT_MAX_US: Final = 300 * SECOND_US
"""How long one request may wait for an invocation's end."""
COUNT_MAX: Final = 2**53 - 1
"""The largest number in a body: whole in every language that reads JSON."""
