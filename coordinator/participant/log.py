"""What a handler logs, once: silent while an attempt repeats what an earlier one did."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from coordinator.participant.attempt import Attempt


class Log:
    """A structlog logger that has the invocation in its context: `ctx.log.info("charged", amount=5)`."""

    def __init__(self, attempt: "Attempt", **bound: Any) -> None:
        self._attempt = attempt
        self._bound = bound
        self._logger: Any = None

    def bind(self, **values: Any) -> "Log":
        """The same with more in its context."""
        return Log(self._attempt, **{**self._bound, **values})

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A method of the logger, or nothing while the attempt is replaying."""
        if self._attempt.journal.replaying or self._attempt.over:
            return _silent
        if self._logger is None:
            start = self._attempt.start
            self._logger = structlog.get_logger("coordinator.participant").bind(
                invocation=start.id, target=self._attempt.handler.target, attempt=start.attempt, **self._bound
            )
        method: Callable[..., Any] = getattr(self._logger, name)
        return method


def _silent(*_args: Any, **_values: Any) -> None:
    """Said before."""
