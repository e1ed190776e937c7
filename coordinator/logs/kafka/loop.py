"""An event loop on a thread of its own, for a library that is asynchronous under a port that is not."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from coordinator.logs.port import LogError

T = TypeVar("T")


class Loop:
    """Runs from its construction until `close`. Everything but `call_soon` blocks, and not its own thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closed = False
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on the loop's own thread, where nothing may block."""
        return threading.current_thread() is self._thread

    def call(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Run it and wait for what comes of it. Raises LogError when the loop is closed before or meanwhile."""
        try:
            return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()
        except (CancelledError, RuntimeError) as error:
            awaited.close()
            if self._closed or isinstance(error, CancelledError):
                raise LogError("the log is closed") from None
            raise

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Run it on the loop's thread, in the order of the calls. Raises LogError when the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            raise LogError("the log is closed") from None

    def close(self) -> None:
        """Cancel what is under way and end the thread; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
