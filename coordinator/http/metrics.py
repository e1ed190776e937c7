"""What Prometheus is shown.

`METRICS` names everything that there is. What describes the system is read from the gateway when it is asked
for; only what describes the requests of this process is counted here, as they happen.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.model.times import parse_rfc3339
from coordinator.requests.lifecycle import State
from coordinator.runtime.dispatch.dispatcher import DispatchView
from coordinator.runtime.group.worker import WorkerView
from coordinator.runtime.views import PartitionView

MEDIA: Final = "text/plain; version=0.0.4; charset=utf-8"


class Described(NamedTuple):
    """A metric as it is documented."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


_PARTITION: Final = ("partition",)

METRICS: Final = (
    Described("coordinator_partition_up", "gauge", _PARTITION, "1 while a process owns it and it does not stand still"),
    Described("coordinator_partition_applied_position", "gauge", _PARTITION, "Applied up to here; -1 for nothing yet"),
    Described("coordinator_partition_end_position", "gauge", _PARTITION, "Position that the next record gets"),
    Described("coordinator_partition_lag_records", "gauge", _PARTITION, "Records on the log and not applied"),
    Described("coordinator_partition_pending_batches", "gauge", _PARTITION, "Batches in force, their scan not ended"),
    Described("coordinator_partition_work_items", "gauge", _PARTITION, "Consequences stored for later ticks"),
    Described("coordinator_partition_held", "gauge", _PARTITION, "Deliveries that a participant has not answered"),
    Described("coordinator_partition_backlog", "gauge", _PARTITION, "Invocations that wait for a delivery slot"),
    Described("coordinator_partition_ticks_total", "counter", _PARTITION, "Ticks applied since the log began"),
    Described("coordinator_partition_records_total", "counter", _PARTITION, "Records applied by the present owner"),
    Described(
        "coordinator_partition_longest_step_seconds", "gauge", _PARTITION, "Longest run of records of the present owner"
    ),
    Described(
        "coordinator_partition_unpublished", "gauge", _PARTITION, "Outbox entries that the log has not acknowledged"
    ),
    Described("coordinator_partition_snapshot_age_seconds", "gauge", _PARTITION, "Age of its newest snapshot"),
    Described("coordinator_partition_snapshot_position", "gauge", _PARTITION, "Position of its newest snapshot"),
    Described(
        "coordinator_partition_snapshot_failures_total", "counter", _PARTITION, "Snapshots its owner could not make"
    ),
    Described("coordinator_requests", "gauge", ("state",), "Batches that are remembered, by their state"),
    Described("coordinator_sessions", "gauge", (), "Participants that are connected"),
    Described("coordinator_sessions_held", "gauge", (), "Attempts that participants have"),
    Described("coordinator_sessions_waiting", "gauge", (), "Attempts delivered for which no participant has room"),
    Described("coordinator_worker_partitions", "gauge", (), "Partitions that this process is to own"),
    Described("coordinator_worker_rebalances_total", "counter", (), "Assignments that the group has given it"),
    Described("coordinator_worker_takeovers_total", "counter", (), "Partitions that it has taken over"),
    Described("coordinator_worker_revoked_total", "counter", (), "Partitions that went from it to another process"),
    Described(
        "coordinator_worker_zombies_total",
        "counter",
        (),
        "Times it was away until its session may be over",
    ),
    Described("coordinator_kafka_up", "gauge", (), "1 while the brokers answer this process"),
    Described("coordinator_kafka_outages_total", "counter", (), "Times the brokers have ceased to answer it"),
    Described("coordinator_http_requests_total", "counter", ("route", "method", "code"), "Requests answered"),
    Described(
        "coordinator_http_request_seconds",
        "histogram",
        ("route", "method"),
        "From the head of a request to the head of its answer",
    ),
)

_BY_NAME: Final = {metric.name: metric for metric in METRICS}
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UNMATCHED: Final = "unmatched"
"""Route of what no route takes: a label never holds what a client made up."""


class BrokersView(NamedTuple):
    """What is known of Kafka's brokers."""

    up: bool
    outages: int


class Shown(NamedTuple):
    """What a process has to show; a process without a role shows nothing of it."""

    partitions: Sequence[PartitionView]
    states: Sequence[str]
    """One for each batch."""
    participants: DispatchView | None
    worker: WorkerView | None
    brokers: BrokersView | None


class HttpMetrics:
    """Counts of this process's requests, in a registry of their own."""

    def __init__(self) -> None:
        # A second series for each, of when it was first counted, is of no use to anyone.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the package has types but for this
        self._registry = CollectorRegistry()
        requests, seconds = _BY_NAME["coordinator_http_requests_total"], _BY_NAME["coordinator_http_request_seconds"]
        self._requests = Counter(requests.name, requests.help, requests.labels, registry=self._registry)
        self._seconds = Histogram(
            seconds.name, seconds.help, seconds.labels, registry=self._registry, buckets=_BUCKETS_S
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """A request was answered."""
        found = self._children.get((route, method, code))
        if found is None:
            found = (self._requests.labels(route, method, str(code)), self._seconds.labels(route, method))
            self._children[route, method, code] = found
        found[0].inc()
        found[1].observe(seconds)

    def exposition(self, shown: Shown) -> bytes:
        """Everything in Prometheus' text format."""
        system = CollectorRegistry()
        system.register(_System(shown))
        return generate_latest(system) + generate_latest(self._registry)


class _System(Collector):
    """The system at one moment."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        shown = self._shown
        if shown.partitions:
            yield from self._partitions(shown.partitions)
        if shown.participants is not None:
            yield self._requests(Tally(shown.states))
            yield from _scalars("coordinator_sessions", shown.participants)
        if shown.worker is not None:
            yield from _scalars("coordinator_worker", shown.worker)
        if shown.brokers is not None:
            yield from _scalars("coordinator_kafka", shown.brokers)

    def _partitions(self, partitions: Sequence[PartitionView]) -> Iterator[Metric]:
        values = {view.partition: _values(view) for view in partitions}
        for metric in METRICS:
            if metric.labels == _PARTITION:
                family = _family(metric)
                for partition, of in values.items():
                    if metric.name in of:
                        family.add_metric((str(partition),), of[metric.name])
                yield family

    def _requests(self, states: Mapping[str, int]) -> Metric:
        by_state = _family(_BY_NAME["coordinator_requests"])
        for state in State:
            by_state.add_metric((state.value,), states.get(state.value, 0))
        return by_state


def _scalars(prefix: str, values: Sequence[float]) -> Iterator[Metric]:
    """The metrics without labels whose names begin so, in the order in which METRICS and the values have them."""
    described = [metric for metric in METRICS if metric.name.startswith(prefix)]
    for metric, value in zip(described, values, strict=True):
        family = _family(metric)
        family.add_metric((), value)
        yield family


def _family(metric: Described) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def _values(view: PartitionView) -> dict[str, float]:
    """By metric; those of a snapshot are left out where there is none."""
    values: dict[str, float] = {
        "coordinator_partition_up": float(view.owner is not None and view.failure is None),
        "coordinator_partition_applied_position": view.position,
        "coordinator_partition_end_position": view.end,
        "coordinator_partition_lag_records": view.lag,
        "coordinator_partition_pending_batches": len(view.pending),
        "coordinator_partition_work_items": view.works,
        "coordinator_partition_held": view.held,
        "coordinator_partition_backlog": view.backlog,
        "coordinator_partition_ticks_total": view.tick,
        "coordinator_partition_records_total": view.records,
        "coordinator_partition_longest_step_seconds": view.longest_step_us / 1e6,
        "coordinator_partition_unpublished": view.unpublished,
        "coordinator_partition_snapshot_failures_total": view.snapshot_failures,
    }
    if view.snapshot_at is not None and view.snapshot_position is not None:
        values["coordinator_partition_snapshot_position"] = view.snapshot_position
        values["coordinator_partition_snapshot_age_seconds"] = max(
            0.0, time.time() - parse_rfc3339(view.snapshot_at) / 1e6
        )
    return values
