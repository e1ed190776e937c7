"""The coordinator's state as any process sees it: read from the changelog, from its beginning and then as it grows.

Whoever serves HTTP on Kafka reads here, also where the coordinator itself runs: what is shown is what is stored, and
the same everywhere. What a replaced coordinator writes is not shown (`changelog.Fence`), so nothing goes backwards.

A thread of its own, with an event loop of its own, follows the topic. A broker that is away is waited for.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from coordinator.model.errors import CorruptionError
from coordinator.requests.deployments import Deployment, Registry
from coordinator.requests.state import Request
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.known import KnownRequests
from coordinator.runtime.requests.outbox import BACKOFF_FIRST_S

POLL_MS: Final = 250
"""How long it waits for records before it looks whether it is to stop."""

_logger: Final = structlog.get_logger()


class RequestsReplica(KnownRequests):
    """`port.Requests` from the changelog, from its construction until `close`."""

    def __init__(
        self,
        topic: str,
        kafka: dict[str, Any],
        *,
        log: str,
        shadowed: Callable[[bytes], None] = lambda key: None,
        timeout_s: float = 30.0,
    ) -> None:
        """Read all there is, and go on in the background. `kafka` is what clients of aiokafka are made with, `log` the
        identity of the log that the rows are to be of.

        `shadowed` is called, from the replica's thread, with each key whose row a replaced coordinator has written.

        Raises UnavailableError when that takes longer than `timeout_s`, CorruptionError when a row cannot be read or
        they were made from another log.
        """
        super().__init__()
        self._partition = TopicPartition(topic, 0)
        self._kafka = kafka
        self._log = log
        self._shadowed = shadowed
        self._fence = changelog.Fence()
        self._registered: dict[int, Deployment] = {}
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requests-replica", daemon=True)
        self._thread.start()
        if not self._ready.wait(timeout_s):
            self.close()
            raise UnavailableError(f"{topic} could not be read within {timeout_s:.0f} s; is the broker there?")
        if self._failure is not None:
            self.close()
            raise self._failure

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._thread.join()
        self._stop(None)

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except Exception as error:  # whatever it is, whoever waits must learn that it has stopped
            _logger.error("requests_replica_stopped", error=str(error), exc_info=error)
            self._stop(error)
            self._ready.set()

    async def _follow(self) -> None:
        while not self._closing.is_set():
            consumer = AIOKafkaConsumer(auto_offset_reset="none", enable_auto_commit=False, **self._kafka)
            try:
                await consumer.start()
                consumer.assign([self._partition])
                await self._read(consumer)
            except OffsetOutOfRangeError as error:
                raise CorruptionError(
                    f"{self._partition.topic} ends before {self._fence.last + 1}, up to where it was read; it has lost "
                    "records or was made anew: start this process again"
                ) from error
            except (KafkaError, OSError) as error:
                _logger.warning("requests_replica_retries", error=str(error))
                await asyncio.sleep(BACKOFF_FIRST_S)
            finally:
                await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        first = (await consumer.beginning_offsets([self._partition]))[self._partition]
        end = (await consumer.end_offsets([self._partition]))[self._partition]
        consumer.seek(self._partition, max(first, self._fence.last + 1))
        while not self._closing.is_set():
            if not self._ready.is_set() and await consumer.position(self._partition) >= end:
                self._ready.set()
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                self._take(records)

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        """Show what a run of records comes to."""
        positions = self._next
        changed: dict[str, Request] = {}
        forgotten: dict[str, None] = {}
        registered = len(self._registered)
        for record in records:
            key = record.key or b""
            if not self._fence.admits(record.offset, key, record.value, record.headers):
                self._fence.check(self._partition.topic, self._log)
                if key in self._fence.shadowed:
                    self._shadowed(key)
                continue
            if record.value is None:
                id = changelog.request_of(key) or ""
                changed.pop(id, None)
                forgotten[id] = None
                continue
            change = changelog.decode(key, record.value)
            positions = changelog.later(positions, change.positions)
            if isinstance(change.what, Request):
                changed[change.what.id] = change.what
                forgotten.pop(change.what.id, None)
            elif change.what is not None:
                self._registered[change.what.number] = change.what
        registry = Registry(self._registered.values()) if len(self._registered) > registered else None
        self._show(positions, changed=changed.values(), registry=registry, forgotten=forgotten)
