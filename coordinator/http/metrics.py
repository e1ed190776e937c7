"""What Prometheus is shown.

`METRICS` names everything that there is. What describes the system is read from the gateway when it is asked
for; only what describes the requests of this process is counted here, as they happen.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.requests.lifecycle import State
from coordinator.runtime.dispatch.dispatcher import DispatchView
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
    Described("coordinator_requests", "gauge", ("state",), "Batches that are remembered, by their state"),
    Described("coordinator_sessions", "gauge", (), "Participants that are connected"),
    Described("coordinator_sessions_held", "gauge", (), "Attempts that participants have"),
    Described("coordinator_sessions_waiting", "gauge", (), "Attempts delivered for which no participant has room"),
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

    def exposition(
        self, partitions: Sequence[PartitionView], states: Iterable[str], participants: DispatchView
    ) -> bytes:
        """Everything in Prometheus' text format. `states` has one entry for each batch."""
        system = CollectorRegistry()
        system.register(_System(partitions, states, participants))
        return generate_latest(system) + generate_latest(self._registry)


class _System(Collector):
    """The partitions, batches and participants at one moment."""

    def __init__(self, partitions: Sequence[PartitionView], states: Iterable[str], participants: DispatchView) -> None:
        self._partitions = partitions
        self._participants = participants
        self._states = Tally(states)

    def collect(self) -> Iterator[Metric]:
        values = {view.partition: _values(view) for view in self._partitions}
        for metric in METRICS:
            if metric.labels != _PARTITION:
                continue
            family = (CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily)(
                metric.name, metric.help, labels=metric.labels
            )
            for partition, of in values.items():
                family.add_metric((str(partition),), of[metric.name])
            yield family
        requests = _BY_NAME["coordinator_requests"]
        by_state = GaugeMetricFamily(requests.name, requests.help, labels=requests.labels)
        for state in State:
            by_state.add_metric((state.value,), self._states[state.value])
        yield by_state
        sessions, held, waiting = self._participants
        for name, value in (("", sessions), ("_held", held), ("_waiting", waiting)):
            metric = _BY_NAME[f"coordinator_sessions{name}"]
            yield GaugeMetricFamily(metric.name, metric.help, value=value)


def _values(view: PartitionView) -> dict[str, float]:
    return {
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
    }
