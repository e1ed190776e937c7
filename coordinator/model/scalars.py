"""The numbers of messages and filters, with the bounds that hold for them wherever they come in.

All of them fit a double exactly, so that no language loses digits of them, and sums of two fit the store.
"""

from typing import Annotated

from msgspec import Meta

_EXACT = 2**53

Time = Annotated[int, Meta(ge=-_EXACT, le=_EXACT)]
"""Microseconds since the epoch, UTC."""
Duration = Annotated[int, Meta(ge=0, le=_EXACT)]
"""Microseconds."""
Count = Annotated[int, Meta(ge=0, le=_EXACT)]
"""How many, or which one of a dense sequence."""
