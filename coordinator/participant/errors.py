"""What ends a handler early.

`TerminalError` and what derives from it are for handlers to raise and to catch. `GivenUp` is not theirs: it takes
a handler down that nobody waits for any more, past every `except Exception`.
"""

from coordinator.model import limits


class TerminalError(Exception):
    """Fails the invocation for good: another attempt would not help. Any other exception is retried."""


class Cancelled(TerminalError):
    """The invocation was asked to cancel.

    Raised once, where the handler awaits. Letting it pass ends the invocation as cancelled; ordinary `except` and
    `finally` blocks undo what was done.
    """


class CallFailed(TerminalError):
    """An invocation that the handler has called ended otherwise than well."""

    def __init__(self, target: str, id: str, outcome: str, failure: str | None) -> None:
        how = "failed" if outcome == "failure" else f"was {outcome}"
        super().__init__(f"{target} {how}: {failure}" if failure else f"{target} {how}")
        self.target = target
        self.id = id
        self.outcome = outcome
        """`failure`, `cancelled` or `killed`."""
        self.failure = failure
        """Why, as the invocation said it."""


class GivenUp(BaseException):
    """The attempt is over: it was suspended, dropped, or its code does not fit its journal."""


def said(error: BaseException, *, with_type: bool = False) -> str:
    """What an error says, as a failure is kept."""
    text, name = str(error), type(error).__name__
    if with_type and text:
        text = f"{name}: {text}"
    return (text or name)[: limits.FAILURE_CHARS_MAX]
