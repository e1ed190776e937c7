"""Keys as the stored rows show them, after each record: never two holders, in order of arrival, nobody forgotten.

Whatever applies records in a test tells this which rows they have written. A row arrives at its key with the record
after which it first holds the key or waits for it; two that arrive in the same microsecond are equals.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from coordinator.model.invocation import KEY, Invocation
from coordinator.model.statuses import Status
from coordinator.partition.machine import Machine
from coordinator.stores.port import Store

Key = tuple[str, str]
_PENDING = int(Status.PENDING)


class Keys:
    """The rows of one partition that have a key."""

    def __init__(self) -> None:
        self._rows: dict[Key, dict[int, Invocation]] = {}
        self._key_of: dict[int, Key] = {}
        self._arrived: dict[int, int] = {}
        """By seq, when it arrived, in microseconds since the epoch; of what was imported that is not known."""

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def note(self, seq: int, row: Invocation | None, now: int, *, imported: bool = False) -> Key | None:
        """This has become of a row; the key that it concerns."""
        if row is None:
            key = self._key_of.pop(seq, None)
            if key is not None:
                del self._rows[key][seq]
            return key
        if row.key is None:
            return None
        key = self._key_of.setdefault(seq, (row.service, row.key))
        self._rows.setdefault(key, {})[seq] = copy(row)
        if not imported and (row.status == _PENDING or row.ties & KEY):
            self._arrived.setdefault(seq, now)
        return key

    def check(self, key: Key, store: Store, machine: Machine) -> None:
        """Hold the rows against what the store says of their key."""
        rows = self._rows.get(key, {})
        holders = [seq for seq, row in rows.items() if row.ties & KEY]
        waiting = [seq for seq, row in rows.items() if row.status == _PENDING]
        holder = store.holder(*key)
        assert len(holders) <= 1, f"{key} is held by {holders}"
        if holder is None:
            assert not holders, f"{key} is free and {holders} hold it"
            assert not waiting or machine.state.loose_keys, f"{key} is free and {waiting} wait for it"
        elif holder == 0:
            assert not holders, f"{key} is being handed on and {holders} hold it"
            assert machine.state.works, f"{key} is being handed on by nobody"
        else:
            assert holders == [holder], f"{key} should be held by {holder} and is by {holders}"
            self._check_order(key, holder, waiting)

    def _check_order(self, key: Key, holder: int, waiting: list[int]) -> None:
        since = self._arrived.get(holder)
        if since is not None:
            earlier = [seq for seq in waiting if self._arrived.get(seq, since) < since]
            assert not earlier, f"{key} is held by {holder}, and {earlier} came before it and wait"
