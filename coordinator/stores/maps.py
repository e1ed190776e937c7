"""Maps whose changes can be taken back: what the reference model of the store is made of.

A transaction is an undo log: each change notes what was there before, `rollback` plays the notes backwards,
`commit` drops them. So a commit costs nothing and a rollback costs what was changed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")
_NOTHING: Any = object()


class UndoLog:
    """What was there before each change of the open transaction."""

    def __init__(self) -> None:
        self.open = False
        self._notes: list[tuple[Map[Any, Any], Any, Any]] = []

    def note(self, table: Map[Any, Any], key: Any, before: Any) -> None:
        assert self.open, "the store is changed only within a transaction"
        self._notes.append((table, key, before))

    def begin(self) -> None:
        assert not self.open, "a transaction is open already"
        self.open = True

    def commit(self) -> None:
        assert self.open, "no transaction is open"
        self.open = False
        self._notes.clear()

    def rollback(self) -> None:
        for table, key, before in reversed(self._notes):
            table.restore(key, before)
        self.commit()


class Map(Generic[K, V]):
    """A dict that notes in an undo log what each change replaces."""

    def __init__(self, undo: UndoLog) -> None:
        self._undo = undo
        self.values: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self.values.get(key)

    def put(self, key: K, value: V) -> bool:
        """False when the key was there."""
        before = self.values.get(key, _NOTHING)
        self._undo.note(self, key, before)
        self._set(key, value)
        return before is _NOTHING

    def drop(self, key: K) -> bool:
        """False when the key was not there."""
        before = self.values.get(key, _NOTHING)
        if before is _NOTHING:
            return False
        self._undo.note(self, key, before)
        self._unset(key)
        return True

    def restore(self, key: K, before: V) -> None:
        if before is not _NOTHING:
            self._set(key, before)
        elif key in self.values:
            self._unset(key)

    def _set(self, key: K, value: V) -> None:
        self.values[key] = value

    def _unset(self, key: K) -> None:
        del self.values[key]


class Sorted(Map[K, V]):
    """The same with its keys in order. Of tuples a shorter one stands before all that begin with it."""

    def __init__(self, undo: UndoLog) -> None:
        super().__init__(undo)
        self._keys: list[Any] = []

    def above(self, key: Any) -> Iterator[K]:
        """Keys above one. Not to be continued after a change."""
        return islice(self._keys, bisect_right(self._keys, key), None)

    def below(self, key: Any) -> K | None:
        """The last key below one."""
        place = bisect_left(self._keys, key)
        return cast("K", self._keys[place - 1]) if place else None

    def _set(self, key: K, value: V) -> None:
        if key not in self.values:
            insort(self._keys, key)
        self.values[key] = value

    def _unset(self, key: K) -> None:
        del self.values[key]
        del self._keys[bisect_left(self._keys, key)]
