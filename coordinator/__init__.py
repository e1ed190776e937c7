"""Event-sourced coordinator for batch termination.

Two pure state machines, `coordinator.partition` and `coordinator.requests`, decide everything over the
vocabulary of `coordinator.model`; the other packages carry records to and from them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.client import Client, Filter, cancel, count, kill, pause, purge, restart_as_new, resume

__version__ = "0.1.0"

__all__ = ["Client", "Filter", "cancel", "count", "kill", "pause", "purge", "restart_as_new", "resume"]


def __getattr__(name: str) -> Any:
    """The client, imported when it is asked for: most of what imports this package has no use for HTTP."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from coordinator import client  # noqa: PLC0415 - late on purpose

    return getattr(client, name)
