"""Data to try the coordinator on, installed with it; README.md beside this says where it comes from.

Imports nothing of `coordinator` and may be imported from the command line, the tests and the benches.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

RESTATE_ROWS: Final = "restate-sys-invocation.jsonl.gz"


def restate_rows() -> Traversable:
    """17,000 rows of a real Restate server's `sys_invocation`: gzip, one JSON object a line."""
    return files(__name__).joinpath(RESTATE_ROWS)
