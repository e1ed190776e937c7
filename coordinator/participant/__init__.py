"""The library for processes that run handlers: declare services, and `serve` them.

May import `coordinator.model` and nothing else of the project.
"""

from coordinator.participant.context import Context
from coordinator.participant.errors import CallFailed, Cancelled, TerminalError
from coordinator.participant.futures import CallFuture, Future, SleepFuture
from coordinator.participant.services import RetryPolicy, Service, VirtualObject, Workflow
from coordinator.participant.serving import run, serve
from coordinator.participant.transport import Transport

__all__ = [
    "CallFailed",
    "CallFuture",
    "Cancelled",
    "Context",
    "Future",
    "RetryPolicy",
    "Service",
    "SleepFuture",
    "TerminalError",
    "Transport",
    "VirtualObject",
    "Workflow",
    "run",
    "serve",
]
