"""The SQL of scans: candidates, conditions and effects as bounded statements.

A slice names candidates by a stretch of seqs, so a statement can reach them in two ways: walk the table over
that stretch and test each row, or go through an index to the candidates alone. Where they lie densely the walk
is faster, for it reads every page once and no index at all; where they are few among many it would read the
whole table. `slice_end` counts candidates, so it knows: more than one in `SPARSE` is dense. Either way the same
rows are found, and the choice hangs on nothing but the calls before it.

The planner is told which way to go (`NOT INDEXED`, `INDEXED BY`), so that no statistics decide it.
"""

# ruff: noqa: S608 - statements are put together from names of this package; values are always bound.

from typing import Any, Final

from coordinator.model.filters import where
from coordinator.stores.lookups import SEQ_MASK, first_entry, key_name
from coordinator.stores.port import Candidates, Condition, Scan, Slice

SPARSE: Final = 6
"""Measured: at 3 seqs a candidate the walk is faster by a quarter, at 10 the index is."""


def count_candidates(scan: Scan, after: int, below: int, limit: int) -> tuple[str, dict[str, Any]]:
    """A query for the last seq of a slice and the number of its candidates."""
    values: dict[str, Any] = {"after": after, "below": below, "limit": limit}
    order, stretch = "seq", "seq > :after AND seq < :below"
    match scan.candidates:
        case Candidates.SERVICE:
            values["service"] = scan.service
            source = f"invocation INDEXED BY invocation_service WHERE service = :service AND {stretch}"
        case Candidates.KEY:
            values = _key_values(scan, after, below - 1) | {"limit": limit}
            order = "entry"
            source = (
                f"key_entry CROSS JOIN invocation ON seq = entry & {SEQ_MASK}"
                " WHERE entry > :first AND entry <= :last AND service = :service AND key = :key"
            )
        case Candidates.MEMBERS:
            values["of"] = scan.members_of
            source = f"member WHERE position = :of AND {stretch}"
        case _:
            source = f"invocation NOT INDEXED WHERE {stretch}"
    candidates = f"SELECT seq FROM {source} ORDER BY {order} LIMIT :limit"
    return f"SELECT max(seq), count(*) FROM ({candidates})", values


def matching(part: Slice, condition: Condition, dense: bool) -> tuple[str, str, dict[str, Any]]:
    """What follows the table's name to reach the slice, the condition that its rows meet, and values for both."""
    test, values = where(condition.filter)
    values |= {"after": part.after, "upto": part.upto, "caught_up_below": condition.caught_up_below}
    hint, candidates = _candidates(part, dense, values)
    tests = [candidates, "caught_up_to < :caught_up_below"]
    if condition.tied is not None:
        tests.append("ties <> 0" if condition.tied else "ties = 0")
    if condition.statuses is not None:
        tests.append(f"status IN ({', '.join(str(int(status)) for status in sorted(condition.statuses))})")
    if test != "1":
        tests.append(test)
    return hint, " AND ".join(tests), values


def _candidates(part: Slice, dense: bool, values: dict[str, Any]) -> tuple[str, str]:
    """How to reach the candidates and what makes a row one of them."""
    stretch = "seq > :after AND seq <= :upto"
    scan = part.scan
    match scan.candidates:
        case Candidates.SERVICE:
            values["service"] = scan.service
            hint = "NOT INDEXED" if dense else "INDEXED BY invocation_service"
            return hint, f"{stretch} AND service = :service"
        case Candidates.KEY:
            values |= _key_values(scan, part.after, part.upto)
            entries = f"SELECT entry & {SEQ_MASK} FROM key_entry WHERE entry > :first AND entry <= :last"
            return "NOT INDEXED", f"seq IN ({entries}) AND service = :service AND key = :key"
        case Candidates.MEMBERS:
            values["of"] = scan.members_of
            members = f"SELECT seq FROM member WHERE position = :of AND {stretch}"
            return "NOT INDEXED", f"seq IN ({members})"
        case _:
            return "NOT INDEXED", stretch


def _key_values(scan: Scan, after: int, upto: int) -> dict[str, Any]:
    assert scan.service is not None, "a scan of a key names its service"
    assert scan.key is not None, "a scan of a key names it"
    first = first_entry(key_name(scan.service, scan.key))
    return {"service": scan.service, "key": scan.key, "first": first | after, "last": first | min(upto, SEQ_MASK)}
