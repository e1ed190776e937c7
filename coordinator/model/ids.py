"""Invocation ids and the partition that an id belongs to.

An id is `inv_1`, eleven base-62 digits of a 64-bit partition key, twenty-two of 128 random bits: Restate's own
form, so that ids of either system route alike. Whoever holds an id can route by it alone:
`partition = partition_key * P >> 64`.

A keyed target's partition key is xxh3_64 of the key and a 0xff byte, its bytes swapped (Restate 1.7.12;
checked against all keyed rows of the bundled example file), so everything of one key shares a partition.
"""

from typing import Final

import xxhash

from coordinator.model.errors import CallerError
from coordinator.model.journal import Call

PREFIX: Final = "inv_1"
ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGIT: Final = {char: value for value, char in enumerate(ALPHABET)}
_KEY_DIGITS: Final = 11
_RANDOM_DIGITS: Final = 22
ID_CHARS: Final = len(PREFIX) + _KEY_DIGITS + _RANDOM_DIGITS


def base62(number: int, digits: int) -> str:
    """`number` in base 62, most significant digit first, padded with zeros to `digits`."""
    out = []
    for _ in range(digits):
        number, digit = divmod(number, 62)
        out.append(ALPHABET[digit])
    return "".join(reversed(out))


def _unbase62(text: str) -> int:
    number = 0
    for char in text:
        number = number * 62 + _DIGIT[char]
    return number


def invocation_id(partition_key: int, random_bits: int) -> str:
    """The id of a 64-bit partition key and 128 bits that tell it from all others of that key."""
    return PREFIX + base62(partition_key, _KEY_DIGITS) + base62(random_bits, _RANDOM_DIGITS)


def partition_key_of(invocation: str) -> int:
    """The 64-bit partition key that an id carries. Raises CallerError when it is not an invocation id."""
    if len(invocation) != ID_CHARS or not invocation.startswith(PREFIX):
        raise CallerError(f"{invocation!r} is not an invocation id: inv_1 and 33 letters or digits", field="id")
    try:
        key = _unbase62(invocation[len(PREFIX) : len(PREFIX) + _KEY_DIGITS])
        _unbase62(invocation[len(PREFIX) + _KEY_DIGITS :])
    except KeyError:
        message = f"{invocation!r} is not an invocation id: only 0-9, a-z and A-Z may follow inv_1"
        raise CallerError(message, field="id") from None
    if key >> 64:
        raise CallerError(f"{invocation!r} is not an invocation id: its partition key exceeds 64 bits", field="id")
    return key


def key_partition_key(key: str) -> int:
    """The partition key of everything addressed to this key."""
    digest = xxhash.xxh3_64_intdigest(key.encode() + b"\xff")
    return int.from_bytes(digest.to_bytes(8, "big"), "little")


def partition_of_key(partition_key: int, partitions: int) -> int:
    """Which of `partitions` a partition key falls into."""
    return partition_key * partitions >> 64


def partition_of(invocation: str, partitions: int) -> int:
    """Which of `partitions` an invocation lives in, from its id alone."""
    return partition_of_key(partition_key_of(invocation), partitions)


def child_id(parent: str, step: int, call: Call) -> str:
    """The id of what an invocation calls or sends in a step; known to whoever knows the step."""
    return derived_id(parent, step, route(call))


def route(call: Call) -> str | None:
    """The key that decides to which partition a call goes; None where any will do."""
    if call.key is None and call.idempotency_key is not None:
        return once(call.service, call.handler, call.idempotency_key)
    return call.key


def once(service: str, handler: str, idempotency_key: str) -> str:
    """What routes a plain service's invocation with an idempotency key: all uses of it must meet in one partition."""
    return f"{service}/{handler}/{idempotency_key}"


def derived_id(origin: str, number: int, key: str | None) -> str:
    """The id of what `origin` (an id or a name unique in the system) creates as its `number`-th.

    Pure, so that a replay creates the same ids; keyed targets go to their key's partition, others spread.
    """
    bits = xxhash.xxh3_128_intdigest(f"{origin}#{number}".encode())
    if key is not None:
        return invocation_id(key_partition_key(key), bits)
    spread = xxhash.xxh3_64_intdigest(f"{number}#{origin}".encode())
    return invocation_id(spread, bits)
