"""Sending: one numbered sequence for each destination, stored with the state.

The digest of a sequence chains over its entries, so two states with equal heads have sent the same bytes,
whether or not the entries themselves are still kept. Nothing here knows what has been published.
"""

from typing import TYPE_CHECKING

import xxhash

from coordinator.model import ids, messages
from coordinator.model.errors import CorruptionError
from coordinator.partition.outputs import Outgoing
from coordinator.partition.state import Head

if TYPE_CHECKING:
    from coordinator.partition.machine import Machine


def next_number(m: "Machine", destination: int) -> int:
    """The number that the next entry for this destination will have."""
    head = m.state.heads.get(destination)
    return 1 if head is None else head.number + 1


def send(m: "Machine", destination: int, message: messages.Message) -> None:
    """Put a message into the outbox."""
    m.sends_left -= 1
    if m.sends_left < 0:
        raise CorruptionError(f"the record at {m.position} sends more messages than its limit allows")
    head = m.state.heads.get(destination)
    if head is None:
        head = m.state.heads[destination] = Head()
    head.number += 1
    value = messages.encode(message)
    head.digest = xxhash.xxh3_64_intdigest(value, head.digest)
    m.store.outbox_put(destination, head.number, value)
    m.outgoing.append(Outgoing(destination, head.number, value))


def send_to_partition(m: "Machine", destination: int, command: messages.Command) -> None:
    """Send a command to a partition (also to this one, by way of the log), numbered for its receiver."""
    command.source = m.state.partition
    command.number = next_number(m, destination)
    send(m, destination, command)


def partition_of(m: "Machine", id: str) -> int:
    """The partition that an invocation lives in."""
    return ids.partition_of(id, m.state.partitions)
