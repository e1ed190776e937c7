"""What surrounds every command: a client, and errors as exit codes and one sentence on stderr."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

from coordinator.cli import settings
from coordinator.model.errors import CallerError, ConflictError, CoordinatorError, NotFoundError, TransientError

if TYPE_CHECKING:
    from coordinator.client import Client
    from coordinator.logs.port import ReadableLog
    from coordinator.runtime.layout import DataDirectory

T = TypeVar("T")


class Exit(IntEnum):
    """What a script may rely on."""

    DONE = 0
    """No match included."""
    FAILED = 1
    """Failed, or partly so."""
    USAGE = 2
    REFUSED = 3
    """By a guard, or by whoever was asked."""
    UNREACHABLE = 4
    NOT_FOUND = 5
    CONFLICT = 6
    INTERRUPTED = 130


def fail(sentence: str, code: Exit) -> NoReturn:
    """End with this code, after saying why."""
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(code)


def exit_of(error: CoordinatorError) -> Exit:
    """The exit code that an error means."""
    from coordinator.client import UnauthorizedError

    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    if isinstance(error, ConflictError):
        return Exit.CONFLICT
    if isinstance(error, TransientError):
        return Exit.UNREACHABLE
    if isinstance(error, CallerError) and not isinstance(error, UnauthorizedError):
        return Exit.USAGE
    return Exit.FAILED


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn the errors of a block into the end of the command."""
    try:
        yield
    except CoordinatorError as error:
        fail(str(error), exit_of(error))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


@contextlib.contextmanager
def failures_of_log() -> Iterator[None]:
    """Turn what the log refuses into the end of the command."""
    from coordinator.logs.port import LogError, LogLockedError

    try:
        yield
    except LogLockedError as error:
        fail(str(error), Exit.CONFLICT)
    except LogError as error:
        fail(str(error), Exit.FAILED)


@contextlib.contextmanager
def reading(log: str | None, data: "DataDirectory") -> "Iterator[ReadableLog]":
    """The log that `--log` names, for a command that only reads it. Needs no server."""
    where = settings.log(log)
    if where == settings.EMBEDDED:
        with data.read_log() as reader:
            yield reader
        return
    from coordinator.logs.kafka import KafkaLog

    kafka = KafkaLog(settings.kafka(where))
    try:
        yield kafka
    finally:
        kafka.close()


def run(url: str | None, body: "Callable[[Client], Awaitable[T]]") -> T:
    """The result of `body` with a client of the server."""
    import asyncio

    from coordinator.client import Client

    async def whole() -> T:
        where = settings.url(url)
        if where is not None and where.startswith("kafka://"):
            client = Client(where, kafka=settings.kafka_properties())
        else:
            client = Client(where, token=settings.token())
        async with client:
            return await body(client)

    with failures():
        return asyncio.run(whole())
