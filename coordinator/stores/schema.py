"""What lies where in a partition's file.

    table         key                          what it holds                              read by
    ------------  ---------------------------  -----------------------------------------  ----------------------
    scalar        name                         `state`: the machine's own scalars         start, operators
                                               `settled`: see `lookups`                   start, `reader`
    invocation    seq (the rowid)              one row each: `model.invocation.COLUMNS`   everything
      …_service   service, seq                 its only index for batches                 scans of one service
      …_created   created_at, seq              its only index for operators               `reader.rows`
    id_entry      hash of the id, seq          where to find an id                        `by_id`
    key_entry     hash of service, key; seq    where to find the rows of a key            scans of one key
    once_entry    hash of what must happen     where to find an idempotency key or        `by_idempotency_key`,
                  only once, seq               the run of a workflow                      `by_workflow_key`
    payload       seq                          input, headers (msgpack), output, and      deliveries, `output`
                                               how it came about (msgpack); no row
                                               where all are empty
    member        batch position, seq          what a guarded batch has marked            commits of such batches
    holder        service, key                 who holds a key; 0: being handed on        starts and ends
    waiting       service, key, at,            the queue of a key                         hand-on
                  tiebreak, seq
    edge          parent id, child id          open attached children and the steps       ends of children,
                                               that called them                           cancel, kill
    awaiter       seq, parent id, child id     who else waits for the end of a row        ends
    journal       seq, step                    what handlers have done (msgpack)          reports, deliveries
    value         service, key, name           the state of keys                          deliveries, reports
    held          seq                          since which position a delivery is out     start, see `held`
    ready         lane, ordinal                those waiting for a delivery               deliveries
    timer         due_at, first, last          when to look at which rows                 ticks
    work          number                       consequences that outlive their record     ticks
    batch         position                     pending and remembered batches             start, operators
    outbox        destination, number          what is to be published                    the publisher

Three decisions are behind this:

**No index on what changes.** Status, times, ties and `caught_up_to` change with every step of an invocation and, in
a sweep, for thousands of rows in one statement; an index on any of them would cost more than the sweep itself
(0.5 million rows/s against 1.4). So an `UPDATE` of an invocation touches its table page and nothing else.

**No index on what is random.** Ids and idempotency keys scatter over an index, so 500 new rows would write 500
of its pages (measured at a million rows: 25,000 inserts/s, against 150,000). Their `…_entry` tables are filled
in hash order, a bucket at a time; `lookups` tells how. They are rowid tables whose whole content is the key: a
hash and a seq packed into one integer.

**Nothing is synced at a commit.** `synchronous=NORMAL` in WAL mode syncs only at checkpoints. A crash of the
process loses nothing. A loss of power may roll the file back to an earlier commit, never to half of one; the
position that is applied is part of each commit and the log is the durable truth, so the lost records are applied
again and give the same rows.
"""

from pathlib import Path
from typing import Final

import apsw

from coordinator.model.errors import CorruptionError
from coordinator.model.invocation import COLUMNS

APPLICATION_ID: Final = 0x636F6F72
"""Marks the file as ours (`coor`), so that another program's database is not taken for a damaged one."""
VERSION: Final = 2
MAKE_AGAIN: Final = "move it and the files beside it away, and it is made again from the log"
"""What to do about a file that cannot be worked with."""
CHECKED_PAGES: Final = 65_536
"""Files up to this size (256 MiB) are checked whole at every start, which takes half a second; of larger ones a
page is checked when it is read."""

_ROW: Final = ",\n    ".join(("seq INTEGER PRIMARY KEY", *COLUMNS[1:]))

STATEMENTS: Final = (
    "CREATE TABLE scalar (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    f"CREATE TABLE invocation (\n    {_ROW}\n)",
    "CREATE INDEX invocation_service ON invocation (service)",
    "CREATE INDEX invocation_created ON invocation (created_at)",
    "CREATE TABLE id_entry (entry INTEGER PRIMARY KEY)",
    "CREATE TABLE key_entry (entry INTEGER PRIMARY KEY)",
    "CREATE TABLE once_entry (entry INTEGER PRIMARY KEY)",
    "CREATE TABLE payload (seq INTEGER PRIMARY KEY, input, headers, output, lineage)",
    "CREATE TABLE member (position, seq, PRIMARY KEY (position, seq)) WITHOUT ROWID",
    "CREATE TABLE holder (service, key, seq, PRIMARY KEY (service, key)) WITHOUT ROWID",
    """CREATE TABLE waiting (
    service, key, at, tiebreak, seq, PRIMARY KEY (service, key, at, tiebreak, seq)
) WITHOUT ROWID""",
    "CREATE TABLE edge (parent, child, step, PRIMARY KEY (parent, child)) WITHOUT ROWID",
    "CREATE TABLE awaiter (seq, parent, child, PRIMARY KEY (seq, parent, child)) WITHOUT ROWID",
    "CREATE TABLE journal (seq, step, value, PRIMARY KEY (seq, step)) WITHOUT ROWID",
    "CREATE TABLE value (service, key, name, value, PRIMARY KEY (service, key, name)) WITHOUT ROWID",
    "CREATE TABLE held (seq INTEGER PRIMARY KEY, position, lane)",
    "CREATE TABLE ready (lane, ordinal, seq, PRIMARY KEY (lane, ordinal)) WITHOUT ROWID",
    "CREATE TABLE timer (due_at, first, last, PRIMARY KEY (due_at, first, last)) WITHOUT ROWID",
    "CREATE TABLE work (number INTEGER PRIMARY KEY, value)",
    "CREATE TABLE batch (position INTEGER PRIMARY KEY, request, value)",
    "CREATE TABLE outbox (destination, number, value, PRIMARY KEY (destination, number)) WITHOUT ROWID",
)


def prepare(connection: apsw.Connection, path: Path) -> None:
    """Make the tables of a new file; make sure that an old one is whole and of this schema."""
    if connection.execute("SELECT 1 FROM sqlite_schema").get is None:
        with connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in STATEMENTS:
                connection.execute(statement)
    check(connection, path)
    if int(connection.execute("PRAGMA page_count").get) <= CHECKED_PAGES:
        *_, found = connection.execute("PRAGMA quick_check(1)").get.splitlines()  # the first line names the schema
        if found != "ok":
            raise CorruptionError(f"the store {path} is damaged ({found}); {MAKE_AGAIN}")


def check(connection: apsw.Connection, path: Path) -> None:
    """Raise CorruptionError unless the file is a store of this schema. Reads a few pages only."""
    if connection.pragma("application_id") != APPLICATION_ID:
        raise CorruptionError(f"{path} is not a store of this program; move it away or name another file")
    version = connection.pragma("user_version")
    if version != VERSION:
        raise CorruptionError(
            f"the store {path} has schema version {version}, this build knows {VERSION}; "
            f"use the build that wrote it, or {MAKE_AGAIN}"
        )
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    if found != set(STATEMENTS):
        raise CorruptionError(f"the tables of the store {path} are not those of its version; {MAKE_AGAIN}")
