"""Finding rows by what is random: ids, keys, idempotency keys.

An ordinary index on a random column makes inserts slow: the rows of a commit go to as many of its pages as
there are rows, and each page is written out whole. So entries are held back in memory and merged in hash
order, as the levels of an LSM tree are (O'Neil et al., 1996), but a little with every commit:

- An entry is one integer, `hash << 38 | seq`; a table of them is a B-tree with nothing but keys. The hash is
  only a hint: whoever follows an entry compares the row. Entries of one hash stand in creation order.
- New entries wait in one of 512 buckets by the upper bits of their hash. For every 64 rows that come, or 512 that
  go, the next bucket is merged, round and round, so a merge writes the few pages of one stretch of the table.
- What waits is looked up in memory first, so it is found at once.
- What waits is not stored; it need not be. `settled` is a seq up to which all rows have been merged (the newest
  when the last completed round began). At start the rows above it, two rounds at most, are entered again;
  an entry that was there already is the same entry.
- A removed row's entry is deleted in the same way, later. Should a crash forget that, the entry leads to no row
  and costs its twelve bytes: a seq is never used twice.

None of this shows: which entries wait is a matter of layout, not of answers.
"""

# ruff: noqa: S608 - statements are put together from names of this package; values are always bound.

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from zlib import crc32

import apsw

from coordinator.model.invocation import Invocation, ServiceType

SEQ_BITS: Final = 38
SEQ_MASK: Final = (1 << SEQ_BITS) - 1
_HASH_SHIFT: Final = 7  # of crc32's 32 bits 25 are kept, so that an entry fits into 63
_BUCKET_SHIFT: Final = 23
BUCKETS: Final = 1 << (32 - _BUCKET_SHIFT)
_ADDED: Final = 8
_DROPPED: Final = 1
_PER_BUCKET: Final = 512
"""What rows that came and went must add up to before the next bucket is merged."""

_WORKFLOW: Final = int(ServiceType.WORKFLOW)


def id_name(id: str) -> bytes:
    return id.encode()


def key_name(service: str, key: str) -> bytes:
    return f"{len(service)} {service}{key}".encode()


def idempotency_name(service: str, handler: str, key: str | None, idempotency_key: str) -> bytes:
    """The lengths keep the parts apart, and no key from the empty one."""
    lengths = f"{len(service)} {len(handler)} {-1 if key is None else len(key)}"
    return f"{lengths} {service}{handler}{key or ''}{idempotency_key}".encode()


def workflow_name(service: str, key: str) -> bytes:
    """Unlike that of any idempotency key."""
    return f"{len(service)} run {service}{key}".encode()


def first_entry(name: bytes) -> int:
    """The entry of a name with seq 0; that with the highest is this `| SEQ_MASK`."""
    return crc32(name) >> _HASH_SHIFT << SEQ_BITS


class Index:
    """Entries of one table and those that wait to join or to leave it."""

    def __init__(self, connection: apsw.Connection, table: str) -> None:
        self._connection = connection
        self._insert = f"INSERT OR IGNORE INTO {table} SELECT value FROM carray(?)"
        self._delete = f"DELETE FROM {table} WHERE entry = ?"
        self._waiting: list[dict[bytes, list[int]]] = [{} for _ in range(BUCKETS)]
        self._gone: list[list[int]] = [[] for _ in range(BUCKETS)]

    def add(self, name: bytes, seq: int) -> None:
        hash = crc32(name)
        entry = hash >> _HASH_SHIFT << SEQ_BITS | seq
        bucket = self._waiting[hash >> _BUCKET_SHIFT]
        if name in bucket:
            bucket[name].append(entry)
        else:
            bucket[name] = [entry]

    def drop(self, names: Iterable[tuple[bytes, int]]) -> None:
        """Forget the entries of removed rows, given the name and the seq of each."""
        for name, seq in names:
            hash = crc32(name)
            entry = hash >> _HASH_SHIFT << SEQ_BITS | seq
            bucket = hash >> _BUCKET_SHIFT
            self._gone[bucket].append(entry)
            waiting = self._waiting[bucket].get(name)
            if waiting is not None and entry in waiting:
                waiting.remove(entry)

    def newest_waiting(self, name: bytes) -> int | None:
        """The highest seq under a name that has not been merged."""
        waiting = self._waiting[crc32(name) >> _BUCKET_SHIFT].get(name)
        return waiting[-1] & SEQ_MASK if waiting else None

    def merge(self, buckets: slice) -> None:
        """Bring neighbouring buckets into the table: what came, then what went."""
        came = [entry for bucket in self._waiting[buckets] for entries in bucket.values() for entry in entries]
        if came:
            self._connection.execute(self._insert, (apsw.carray(array("q", sorted(came))),))
        gone = [entry for bucket in self._gone[buckets] for entry in bucket]
        if gone:
            self._connection.executemany(self._delete, ((entry,) for entry in sorted(gone)))
        self._clear(buckets)

    def settle(self, name: bytes) -> None:
        """Bring all entries of a name into the table."""
        bucket = crc32(name) >> _BUCKET_SHIFT
        self.merge(slice(bucket, bucket + 1))

    def clear(self) -> None:
        self._clear(slice(None))

    def _clear(self, buckets: slice) -> None:
        for waiting in self._waiting[buckets]:
            waiting.clear()
        for gone in self._gone[buckets]:
            gone.clear()


class Lookups:
    """The three indices, merged in step."""

    COLUMNS: Final = "seq, id, service, handler, key, type, shared, idempotency_key"
    """What `drop` must know of a row."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.ids = Index(connection, "id_entry")
        self.keys = Index(connection, "key_entry")
        self.once = Index(connection, "once_entry")
        self._bucket = 0
        self._owed = 0
        self._newest = 0
        self._newest_at_start = 0

    def add(self, row: Invocation) -> None:
        seq, service, key = row.seq, row.service, row.key
        self.ids.add(id_name(row.id), seq)
        if key is not None:
            self.keys.add(key_name(service, key), seq)
            if row.type == _WORKFLOW and not row.shared:
                self.once.add(workflow_name(service, key), seq)
        if row.idempotency_key is not None:
            self.once.add(idempotency_name(service, row.handler, key, row.idempotency_key), seq)
        self._owed += _ADDED
        self._newest = seq

    def drop(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Forget removed rows, given the COLUMNS of each."""
        self.ids.drop((id.encode(), seq) for seq, id, *_ in rows)
        self.keys.drop((key_name(row[2], row[4]), row[0]) for row in rows if row[4] is not None)
        self.once.drop(_once(rows))
        self._owed += _DROPPED * len(rows)

    def merge(self) -> None:
        """Merge what is due for the rows that came and went since the last call."""
        due, self._owed = divmod(self._owed, _PER_BUCKET)
        due = min(due, BUCKETS)
        while due:
            end = min(self._bucket + due, BUCKETS)
            for index in (self.ids, self.keys, self.once):
                index.merge(slice(self._bucket, end))
            due -= end - self._bucket
            self._bucket = end
            if end == BUCKETS:
                self._end_round()

    def _end_round(self) -> None:
        sql = "INSERT OR REPLACE INTO scalar VALUES ('settled', ?)"
        self._connection.execute(sql, (self._newest_at_start,))
        self._bucket = 0
        self._newest_at_start = self._newest

    def reload(self, settled: int, rows: Iterable[Invocation]) -> None:
        """Start again from what is stored: the rows above `settled`, in creation order."""
        for index in (self.ids, self.keys, self.once):
            index.clear()
        self._newest = settled
        for row in rows:
            self.add(row)
        self._newest_at_start = self._newest
        self._bucket = self._owed = 0


def _once(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[bytes, int]]:
    for seq, _, service, handler, key, type, shared, idempotency_key in rows:
        if type == _WORKFLOW and key is not None and not shared:
            yield workflow_name(service, key), seq
        if idempotency_key is not None:
            yield idempotency_name(service, handler, key, idempotency_key), seq
