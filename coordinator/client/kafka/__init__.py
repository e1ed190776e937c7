"""Batches over Kafka, without a server to ask: a producer to `requests`, and a consumer of it and of `progress`.

The log is the truth, so whoever reads it knows what the coordinator knows. `following` folds the records of one request
by the coordinator's own machine and shows it by its own view: what comes out is what a server would answer.

Imported when a client is given a kafka:// URL, and not before: this is what needs Kafka's client. May import
`coordinator.model`, `coordinator.requests`, which is pure, and `coordinator.logs` for the settings and the errors.
"""

from coordinator.client.kafka.batches import KafkaBatches

__all__ = ["KafkaBatches"]
