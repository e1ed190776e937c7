"""Logging: one JSON object a line on stderr, a console format on a terminal."""

import logging
import sys
from typing import Final

import structlog

AGAIN_S: Final = 5.0
"""How long a library that says the same thing again is not listened to."""
_REMEMBERED: Final = 1_000
"""How many things it is remembered of that they were said."""


class Libraries(logging.Handler):
    """What libraries have to say, in the same form. What one says again and again is said now and then, with how often
    it was: the clients of brokers that are away have several things to say about each of some hundred tries a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}
        """When what was said last, by who said it and what, without what it is about."""
        self._unsaid: dict[tuple[str, object], int] = {}
        """How often it was not said since; of what was said just now only."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless it was said just now."""
        what = record.name, record.msg
        if record.created - self._said.get(what, float("-inf")) < AGAIN_S:
            self._unsaid[what] = self._unsaid.get(what, 0) + 1
            return
        more: dict[str, object] = {}
        if record.exc_info:
            more["exc_info"] = record.exc_info
        if unsaid := self._unsaid.pop(what, 0):
            more["unsaid"] = unsaid
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
            self._unsaid.clear()
        self._said[what] = record.created
        structlog.get_logger().log(record.levelno, record.getMessage(), library=record.name, **more)


def configure_logging() -> None:
    """Set up structlog for this process."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Libraries()], level=logging.WARNING)
