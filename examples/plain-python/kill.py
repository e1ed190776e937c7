"""Kill what a filter matches, and follow it: with a Kafka client and msgpack, and nothing of the coordinator's package.

    pip install aiokafka msgpack
    python kill.py Greeter suspended

What is written and read here is specified in `schemas/`. `KAFKA_BOOTSTRAP` names the brokers, 127.0.0.1:9092 if it is
not set; `TOPIC_PREFIX` is what the names of the topics begin with. Prints a line of JSON for each change.
"""

import asyncio
import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgpack
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

BOOTSTRAP = os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092")
PREFIX = os.environ.get("TOPIC_PREFIX", "coordinator.")
SUBMIT, PROGRESS, REQUEST_STATE = 32, 48, 49
OVER = ("completed", "completed-with-failures", "aborted", "refused")


async def follow(request: str, consumer: AIOKafkaConsumer) -> AsyncIterator[tuple[dict[str, Any], Counter[str]]]:
    """The state of one request and its counts, after each record that says something new about it.

    Records are cumulative and may come more than once and in any order: what has the highest number holds.
    """
    state: dict[str, Any] = {"number": 0, "state": "accepted"}
    partitions: dict[int, dict[str, Any]] = {}
    async for record in consumer:
        message = msgpack.unpackb(record.value, strict_map_key=False)
        if message["kind"] not in (PROGRESS, REQUEST_STATE) or message["request"] != request:
            continue
        if message["kind"] == REQUEST_STATE:
            if message["number"] <= state["number"]:
                continue
            state = message
        else:
            known = partitions.get(message["partition"])
            if known is not None and message["number"] <= known["number"]:
                continue
            partitions[message["partition"]] = message
        counts: Counter[str] = Counter()
        for told in partitions.values():
            counts.update(told["tally"])
        yield state, counts


async def kill(service: str, status: str) -> str:
    """Submit the batch and print how it goes; the state in which it ended."""
    request = f"kill-{uuid.uuid4()}"
    submit = {
        "kind": SUBMIT,
        "v": 1,
        "request": request,
        "action": "kill",
        "filter": {"service": service, "status": [status]},
        "reason": "an example without the package",
    }
    progress = TopicPartition(f"{PREFIX}progress", 0)
    async with (
        AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False) as consumer,
        AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", enable_idempotence=True) as producer,
    ):
        # From the end on, and the end is fixed before anything is asked for: so nothing of the answer is missed.
        consumer.assign([progress])
        consumer.seek(progress, (await consumer.end_offsets([progress]))[progress])
        await producer.send_and_wait(f"{PREFIX}requests", msgpack.packb(submit), key=request.encode())
        async for state, counts in follow(request, consumer):
            print(json.dumps({"request": request, "state": state["state"], **counts}), flush=True)
            if state["state"] in OVER:
                if "reason" in state:
                    print(state["reason"], file=sys.stderr)
                return str(state["state"])
    raise AssertionError("a consumer that is not stopped goes on")


if __name__ == "__main__":
    sys.exit(asyncio.run(kill(*sys.argv[1:])) != "completed")
