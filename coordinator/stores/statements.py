"""Statements on a partition's file, as the parts of the SQLite store share them."""

from collections.abc import Callable, Iterable
from typing import Any

import apsw


class Statements:
    """A connection and the few ways in which it is used."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def _all(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        return self._connection.execute(sql, bindings).fetchall()

    def _value(self, sql: str, bindings: tuple[Any, ...] = ()) -> Any:
        """The one value of the first row, None where there is none."""
        for (value,) in self._connection.execute(sql, bindings):
            return value
        return None

    def _change(self, sql: str, bindings: tuple[Any, ...]) -> int:
        """How many rows the statement changed."""
        self._connection.execute(sql, bindings)
        return self._connection.changes()

    def _write(self, sql: str, rows: Iterable[Any], clear: Callable[[], None]) -> None:
        self._connection.executemany(sql, rows)
        clear()
