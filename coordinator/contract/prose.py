"""What the contract says in words: the rules that hold on all streams. Markdown, one section a rule."""

from typing import Final

from coordinator.model import ids, limits
from coordinator.model.messages import Tally

_KIB: Final = 1024

ENCODING: Final = f"""\
A record's value is one msgpack map with text keys: `kind`, a number that says which message it is and is
never given to another one; `v`, the schema version it was written in; and the message's fields by name, in any
order. A field at its default is left out; `kind` and `v` never are. Text is msgpack str in valid UTF-8, bytes are
bin, integers are integers (not floats) of any width within 64 bits signed. Extension types are not used, and
no key stands twice. Times are microseconds since the epoch, UTC; durations are microseconds.

A record has at most {limits.RECORD_BYTES_MAX // _KIB} KiB, one on `requests` \
{limits.REQUEST_RECORD_BYTES_MAX // _KIB} KiB; that is looked at before it is decoded."""

VERSIONS: Final = f"""\
This is schema level {limits.SCHEMA_LEVEL}. `v` is the lowest level that has everything the record uses. Levels only \
add:
kinds, and fields with a default. A partition reads `v` up to its own level, which a `Level` record on its log
raises and nothing else; a build that does not know that level stops there, and what is above the level is a
dead letter. Fields that the level does not have make a record unreadable, so that a misspelt one is never
silently ignored. Programs that only read `progress`, `deliveries` or `dead-letters` do the opposite: they skip
kinds and ignore fields that they do not know."""

DELIVERY: Final = """\
Everything is written at least once: a record may stand on its stream again, also long after, and a reader may
be handed it twice. What is sent twice is recognized by what it carries, never by its position: `Invoke` and
`Import` by the id (`Invoke` by its idempotency key too), `Submit`, `Batch`, `Control` and `Commit` by the request id
and revision, reports by id and attempt, `Tick` by its number, what partitions tell each other by `source` and
`number`, `Steps` by the numbers of its steps. So whoever is not sure whether an append succeeded appends again. `Act`
and `RequestControl` are the exceptions: they take effect again. Write with `acks=all` and an idempotent producer."""

NUMBERS: Final = """\
`source` and `number` are for what partitions send each other: numbers are dense from 1 for each pair of
partitions, the receiver takes only the next one, drops lower ones and stops at a gap. Nobody else sets them.

`Progress` is cumulative and never a delta. Its `number` is dense from 1 for each partition over all its requests,
so a reader of one request sees gaps. Of each request and partition the highest number is the newest and replaces
all others, in whatever order they come. `RequestState.number` is dense from 1 for each request; here too the
highest is the newest."""

ROUTING: Final = f"""\
An invocation's id is `{ids.PREFIX}`, eleven base-62 digits of a 64-bit partition key, and 22 more of 128 bits that
make it unique. Digits are `0-9a-zA-Z` in this order, the most significant first, padded with `0`. Its partition on
`commands` and `deliveries`, of P, is `partition_key * P >> 64`: the upper half of a 128-bit product.

What is addressed to a key has its partition key from the key alone: XXH3-64 (seed 0) of the key's UTF-8 bytes
and one byte `ff`, the eight bytes of the result in reverse order. For a service without keys the partition key is
random; with an idempotency key it is made, as a key's is, from `service/handler/idempotency key`, so that all
invocations with it meet in one partition. `schemas/golden/routing.json` has
cases.

On `requests` and `progress` Kafka's default partitioner chooses by the key, the request id. Clients on librdkafka
must say `partitioner=murmur2_random`, or they choose otherwise."""

LAW: Final = f"""\
On every `Progress` and `RequestState`, and summed over the partitions:

    matched = {" + ".join(Tally.COUNTED)}

A match is counted once, where the batch met its row. `signalled` are asked to end and have not yet; as they do,
they move to `ended`, or to `ended_by_other` when it was not by this batch. `applied` is for actions other than cancel
and kill, and for dry runs. So `matched` never falls, and counters may move on after the state is `completed`.
Descendants are in `propagated`, beside the law."""

DEAD_LETTERS: Final = """\
A record that cannot be read (too large, not msgpack, an unknown kind, field or version, a value of the wrong
type) or that cannot be meant so (an id of another partition, an outcome that does not exist) changes nothing. It goes
to `dead-letters` with its partition and position (of `commands`, unless the reason names another stream), a reason
in one sentence and its bytes; the same again on every replay. A `Submit` that can be read but not taken is
refused instead: its state is told as `refused` with a reason. So is a `Batch`, by the partition's progress."""

SECTIONS: Final = (
    ("Encoding", ENCODING),
    ("Versions", VERSIONS),
    ("At least once", DELIVERY),
    ("Numbers", NUMBERS),
    ("Routing", ROUTING),
    ("The conservation law", LAW),
    ("Dead letters", DEAD_LETTERS),
)


def sections(level: int) -> str:
    """All of it, under headings of this level."""
    return "\n\n".join(f"{'#' * level} {title}\n\n{text}" for title, text in SECTIONS)
