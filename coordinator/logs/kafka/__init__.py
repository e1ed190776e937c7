"""The log on Apache Kafka: a topic for each stream, a partition for a partition, a position is an offset.

`log` is the adapter; `settings` says which cluster and how to speak to it; `topics` makes and verifies what is there.
Nothing outside of this package imports aiokafka, but for those who share partitions out by a consumer group.
"""

import logging

from coordinator.logs.kafka.log import KafkaLog
from coordinator.logs.kafka.settings import KafkaSettings, SettingsError

__all__ = ["KafkaLog", "KafkaSettings", "SettingsError"]

# What goes wrong comes to the caller as an error; without a handler Python would print it to stderr besides.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())
