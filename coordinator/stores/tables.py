"""The small tables of a partition: keys, call trees, deliveries, timers, work, batches, outbox.

Most calls are one statement. What every invocation goes through (the outbox, timers, the holders and queues of
keys, those ready and those delivered) is held back and written many at a time: at the commit, and before a
statement that must see it.
"""

from typing import Final

import apsw
import msgspec

from coordinator.stores.held import Held
from coordinator.stores.port import Timer, Work
from coordinator.stores.ready import Ready
from coordinator.stores.statements import Statements

_to_work: Final = msgspec.msgpack.Decoder(Work).decode
_HOLDERS_MAX: Final = 20_000


class Tables(Statements):
    """Everything of a partition but its rows and journals."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._held = Held(connection)
        self._ready = Ready(connection)
        self._holders: dict[tuple[str, str], int | None] = {}
        self._holders_set: dict[tuple[str, str], None] = {}
        self._pushed: list[tuple[str, str, int, str, int]] = []
        self._timers: dict[Timer, bool] = {}
        """Timer -> whether it is to be there."""
        self._outbox: dict[tuple[int, int], bytes] = {}

    def load_state(self) -> bytes | None:
        state: bytes | None = self._value("SELECT value FROM scalar WHERE name = 'state'")
        return state

    def save_state(self, state: bytes) -> None:
        self._change("INSERT OR REPLACE INTO scalar VALUES ('state', ?)", (state,))

    # -- members

    def add_member(self, position: int, seq: int) -> None:
        self._change("INSERT OR IGNORE INTO member VALUES (?, ?)", (position, seq))

    def is_member(self, position: int, seq: int) -> bool:
        sql = "SELECT 1 FROM member WHERE position = ? AND seq = ?"
        return self._value(sql, (position, seq)) is not None

    def drop_members(self, position: int, limit: int) -> int:
        sql = """
        DELETE FROM member WHERE position = ?1
        AND seq IN (SELECT seq FROM member WHERE position = ?1 ORDER BY seq LIMIT ?2)"""
        return self._change(sql, (position, limit))

    # -- keys

    def holder(self, service: str, key: str) -> int | None:
        held = (service, key)
        if held in self._holders:
            return self._holders[held]
        seq: int | None = self._value("SELECT seq FROM holder WHERE service = ? AND key = ?", held)
        self._holders[held] = seq
        return seq

    def set_holder(self, service: str, key: str, seq: int | None) -> None:
        self._holders[service, key] = seq
        self._holders_set[service, key] = None

    def queue_push(self, service: str, key: str, at: int, tiebreak: str, seq: int) -> None:
        self._pushed.append((service, key, at, tiebreak, seq))

    def queue_pop(self, service: str, key: str) -> int | None:
        self._write_pushed()
        sql = """
        SELECT at, tiebreak, seq FROM waiting WHERE service = ? AND key = ?
        ORDER BY at, tiebreak, seq LIMIT 1"""
        first = self._all(sql, (service, key))
        if not first:
            return None
        at, tiebreak, seq = first[0]
        sql = "DELETE FROM waiting WHERE service = ? AND key = ? AND at = ? AND tiebreak = ? AND seq = ?"
        self._change(sql, (service, key, at, tiebreak, seq))
        return int(seq)

    def free_keys(self, service: str, key: str, limit: int) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
        self._write_pushed()
        # Skips from key to key, however long their queues are.
        sql = """
        SELECT service, key FROM waiting WHERE (service, key) > (?, ?) ORDER BY service, key LIMIT 1"""
        found: list[tuple[str, str]] = []
        for _ in range(limit):
            following = self._all(sql, (service, key))
            if not following:
                return found, None
            service, key = following[0]
            if self.holder(service, key) is None:
                found.append((service, key))
        return found, (service, key)

    def _write_pushed(self) -> None:
        if self._pushed:
            sql = "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?)"
            self._write(sql, self._pushed, self._pushed.clear)

    def _write_holders(self) -> None:
        if self._holders_set:
            now = [(*held, self._holders[held]) for held in self._holders_set]
            self._holders_set.clear()
            held = [entry for entry in now if entry[2] is not None]
            free = [entry[:2] for entry in now if entry[2] is None]
            self._connection.executemany("INSERT OR REPLACE INTO holder VALUES (?, ?, ?)", held)
            self._connection.executemany("DELETE FROM holder WHERE service = ? AND key = ?", free)

    # -- call trees

    def edge_add(self, parent: str, child: str, step: int) -> bool:
        return self._change("INSERT OR IGNORE INTO edge VALUES (?, ?, ?)", (parent, child, step)) == 1

    def edge_remove(self, parent: str, child: str) -> int | None:
        sql = "DELETE FROM edge WHERE parent = ? AND child = ? RETURNING step"
        step: int | None = self._value(sql, (parent, child))
        return step

    def edges(self, parent: str, after: str, limit: int) -> list[str]:
        sql = "SELECT child FROM edge WHERE parent = ? AND child > ? ORDER BY child LIMIT ?"
        return [child for (child,) in self._all(sql, (parent, after, limit))]

    def awaiter_add(self, seq: int, parent: str, child: str) -> None:
        self._change("INSERT OR IGNORE INTO awaiter VALUES (?, ?, ?)", (seq, parent, child))

    def awaiters(self, seq: int, limit: int) -> list[tuple[str, str]]:
        sql = "SELECT parent, child FROM awaiter WHERE seq = ? ORDER BY parent, child LIMIT ?"
        return self._all(sql, (seq, limit))

    def awaiter_remove(self, seq: int, parent: str, child: str) -> None:
        self._change("DELETE FROM awaiter WHERE seq = ? AND parent = ? AND child = ?", (seq, parent, child))

    # -- deliveries

    def held_put(self, seq: int, position: int, lane: str) -> None:
        self._held.put(seq, position, lane)

    def held_remove(self, seq: int) -> str:
        return self._held.remove(seq)

    def held_before(self, position: int, limit: int) -> list[int]:
        return self._held.before(position, limit)

    def ready_push(self, lane: str, ordinal: int, seq: int) -> None:
        self._ready.push(lane, ordinal, seq)

    def ready_pop(self, lane: str) -> int | None:
        return self._ready.pop(lane)

    # -- timers

    def timer_add(self, timer: Timer) -> None:
        self._timers[timer] = True

    def timer_remove(self, timer: Timer) -> None:
        self._timers[timer] = False

    def timers_due(self, at: int, limit: int) -> list[Timer]:
        self._write_timers()
        sql = "SELECT * FROM timer WHERE due_at <= ? ORDER BY due_at, first, last LIMIT ?"
        return [Timer(*values) for values in self._all(sql, (at, limit))]

    def next_timer(self) -> int | None:
        self._write_timers()
        due_at: int | None = self._value("SELECT due_at FROM timer ORDER BY due_at LIMIT 1")
        return due_at

    def _write_timers(self) -> None:
        if self._timers:
            there = [timer for timer, is_there in self._timers.items() if is_there]
            gone = [timer for timer, is_there in self._timers.items() if not is_there]
            self._timers.clear()
            self._connection.executemany("INSERT OR IGNORE INTO timer VALUES (?, ?, ?)", there)
            sql = "DELETE FROM timer WHERE due_at = ? AND first = ? AND last = ?"
            self._connection.executemany(sql, gone)

    # -- work items

    def work_put(self, work: Work) -> None:
        value = msgspec.msgpack.encode(work)
        self._change("INSERT OR REPLACE INTO work VALUES (?, ?)", (work.number, value))

    def work_remove(self, number: int) -> None:
        self._change("DELETE FROM work WHERE number = ?", (number,))

    def work_list(self, limit: int) -> list[Work]:
        values = self._all("SELECT value FROM work ORDER BY number LIMIT ?", (limit,))
        return [_to_work(value) for (value,) in values]

    # -- batches

    def batch_put(self, position: int, request: str, value: bytes) -> None:
        self._change("INSERT OR REPLACE INTO batch VALUES (?, ?, ?)", (position, request, value))

    def batch_remove(self, position: int) -> None:
        self._change("DELETE FROM batch WHERE position = ?", (position,))

    def batches(self) -> list[tuple[int, str, bytes]]:
        return self._all("SELECT position, request, value FROM batch ORDER BY position")

    # -- outbox

    def outbox_put(self, destination: int, number: int, value: bytes) -> None:
        self._outbox[destination, number] = value

    def outbox_list(self, destination: int, above: int, limit: int) -> list[tuple[int, bytes]]:
        self._write_outbox()
        sql = "SELECT number, value FROM outbox WHERE destination = ? AND number > ? ORDER BY number LIMIT ?"
        return self._all(sql, (destination, above, limit))

    def outbox_trim(self, destination: int, upto: int) -> None:
        self._write_outbox()
        self._change("DELETE FROM outbox WHERE destination = ? AND number <= ?", (destination, upto))

    def outbox_destinations(self) -> list[int]:
        self._write_outbox()
        # Skips from destination to destination, however much waits for each.
        sql = """
        WITH RECURSIVE found(destination) AS (
            SELECT min(destination) FROM outbox
            UNION ALL
            SELECT (SELECT min(destination) FROM outbox WHERE destination > found.destination) FROM found
            WHERE destination IS NOT NULL
        ) SELECT destination FROM found WHERE destination IS NOT NULL"""
        return [destination for (destination,) in self._all(sql)]

    def _write_outbox(self) -> None:
        if self._outbox:
            rows = [(*place, value) for place, value in self._outbox.items()]
            sql = "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)"
            self._write(sql, rows, self._outbox.clear)

    # -- between memory and the file

    def write_tables(self) -> None:
        """Bring the file up to date."""
        self._held.write()
        self._ready.write()
        self._write_pushed()
        self._write_holders()
        self._write_timers()
        self._write_outbox()
        if len(self._holders) > _HOLDERS_MAX:
            self._holders.clear()

    def reload_tables(self) -> None:
        """Drop what is not in the file."""
        self._held.reload()
        self._ready.reload()
        for cache in (self._holders, self._holders_set, self._timers, self._outbox):
            cache.clear()
        self._pushed.clear()
