"""Writes the parts of the documentation that the code knows better: `make docs`.

A generated part stands between two comments in a page that is otherwise written by hand:

    <!-- generated: NAME -->
    <!-- /generated -->

`PARTS` says which page has which parts and what makes them. `tests/docs` fails when a page has drifted.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from coordinator.model import limits
from coordinator.model.statuses import (
    NAMES,
    OUTCOME_NAMES,
    TRANSITIONS,
    UNCHANGED,
    Action,
    Change,
    Counter,
    Event,
    Status,
    acts_on,
)

HERE: Final = Path(__file__).resolve().parent

# -- the status diagram --------------------------------------------------------------------------------------

BEGINNINGS: Final = {
    Status.SCHEDULED: "sent with a delay",
    Status.READY: "sent",
    Status.PENDING: "sent, its key is held",
}
ALSO: Final = {(Status.SCHEDULED, Event.DUE, Status.PENDING): "due, its key is held"}
"""The one transition with two targets: which one it is depends on the key, not on the row."""


def diagram() -> str:
    """Every transition that leads to another status."""
    edges: dict[tuple[str, str], list[str]] = {("[*]", _node(to)): [label] for to, label in BEGINNINGS.items()}
    for (status, what), change in TRANSITIONS.items():
        if change.to is not status:
            target = "[*]" if change.to is None else _node(change.to)
            edges.setdefault((_node(status), target), []).append(str(what))
    for (status, _, to), label in ALSO.items():
        edges.setdefault((_node(status), _node(to)), []).append(label)
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += [f'    state "{NAMES[status]}" as {_node(status)}' for status in Status if "-" in NAMES[status]]
    lines += [f"    {source} --> {target}: {', '.join(labels)}" for (source, target), labels in edges.items()]
    return "\n".join(["```mermaid", *lines, "```"])


def _node(status: Status) -> str:
    return NAMES[status].replace("-", "_")


# -- the answers ---------------------------------------------------------------------------------------------


def code(status: Status, action: Action) -> int:
    """What the API answers when the action is asked of one invocation in this status."""
    change = TRANSITIONS.get((status, action))
    if change is None:
        return 200 if (status, action) in UNCHANGED else 409
    return 202 if change.makes_another or change.counter is Counter.SIGNALLED else 200


def answers() -> str:
    """Status by action: what is answered, and what the row becomes."""
    asked = [action for action in Action if action is not Action.COUNT]
    rows = [["status", *(f"`{action}`" for action in asked)]]
    for status in Status:
        rows.append([f"`{NAMES[status]}`", *(_answer(status, action) for action in asked)])
    return table(rows)


CASES: Final = (
    ("any action", "one that is not there, or no longer", 404, "is not there"),
    ("`resume` with `deployment`", "a paused one, or one that backs off", 200, "it goes on there, pinned to it"),
    ("`resume` with `deployment`", "one that is ready, running or suspended", 200, "unchanged; it stays where it is"),
    ("`restart-as-new`", "a completed one of a workflow", 409, "it belongs to a workflow"),
    ("`restart-as-new`", "a completed one that was imported", 409, "it was imported without its input"),
    ("`cancel`", "one that is asked to cancel already", 202, "unchanged; it holds one open cancel"),
    ("`cancel`", "one that was imported as running", 202, "`ready`; nobody holds it, and its next attempt is told"),
)
"""Where more than the status tells the answer; the tests ask each of a partition."""


def cases() -> str:
    """Asked of what, and what is answered."""
    rows = [["asked", "of", "answer"]]
    rows += [[asked, of, f"{number}: {says}"] for asked, of, number, says in CASES]
    return table(rows)


def _answer(status: Status, action: Action) -> str:
    change = TRANSITIONS.get((status, action))
    number = code(status, action)
    if change is None:
        return "200, unchanged" if number == 200 else "409"
    return f"{number}, another one" if change.makes_another else f"{number} → {_becomes(change)}"


def _becomes(change: Change) -> str:
    if change.to is None:
        return "removed"
    if change.outcome is not None:
        return OUTCOME_NAMES[change.outcome]
    return f"`{NAMES[change.to]}`"


def batches() -> str:
    """Action: which statuses a batch without a status means, and what it counts in each."""
    rows = [["action", "statuses that it means", "counted as"]]
    for action in Action:
        counted: dict[str, list[str]] = {}
        for status in acts_on(action):
            counted.setdefault(str(TRANSITIONS[status, action].counter), []).append(f"`{NAMES[status]}`")
        means = ", ".join(f"`{NAMES[status]}`" for status in acts_on(action))
        if len(acts_on(action)) == len(Status):
            means = "every one"
        if len(counted) == 1:
            says = f"`{next(iter(counted))}`"
        else:
            says = "; ".join(f"`{counter}`: {', '.join(names)}" for counter, names in counted.items())
        rows.append([f"`{action}`", means, says])
    return table(rows)


def events() -> str:
    """What happens to an invocation by itself, from where to where."""
    rows = [["event", "in", "becomes"]]
    for event in Event:
        found = {status: change for (status, what), change in TRANSITIONS.items() if what is event}
        for to in dict.fromkeys(found.values()):
            sources = ", ".join(f"`{NAMES[status]}`" for status, change in found.items() if change == to)
            rows.append([event.value, sources, _becomes(to)])
    for (status, event, to), label in ALSO.items():
        rows.append([f"{event.value}{label.removeprefix(event.value)}", f"`{NAMES[status]}`", f"`{NAMES[to]}`"])
    return table(rows)


# -- the limits ----------------------------------------------------------------------------------------------

UNITS: Final = ("SECOND_US", "HOUR_US", "DAY_US")
"""Names in limits.py that are no limits."""


class Bound(NamedTuple):
    """What a limit bounds, and what happens to what exceeds it."""

    what: str
    beyond: str


LIMITS: Final = {
    "The log": {
        "PARTITIONS_MAX": Bound("partitions of one log", "refused at start"),
        "RECORD_BYTES_MAX": Bound("a record", "refused by the API (413); on the log a dead letter"),
        "REQUEST_BYTES_MAX": Bound("the body of `POST /batches` or `POST /deployments`", "refused (413)"),
        "REQUEST_RECORD_BYTES_MAX": Bound("a record on `requests`: such a body and what is added to it", "dead letter"),
        "LOG_VALUE_BYTES_MAX": Bound("what a log takes at all", "the append fails, nothing of it is on the log"),
        "SCHEMA_LEVEL": Bound(
            "the newest schema level that this build knows",
            "a record written above the partition's level is a dead letter; a `level` record above this stops it",
        ),
    },
    "One record, one tick": {
        "ROWS_PER_RECORD_MAX": Bound("rows that one record touches", "what follows becomes work items"),
        "CHILDREN_PER_RECORD_MAX": Bound("children named in one message to another partition", "sent in more messages"),
        "STEPS_PER_REPORT_MAX": Bound("steps in one report of a participant", "dead letter"),
        "STEPS_MAX": Bound("steps of one invocation", "the report is a dead letter"),
        "AWAITED_MAX": Bound("steps that a suspended one waits for the first of", "the report is a dead letter"),
        "CONTEXT_ENTRIES_MAX": Bound("journal or state entries in one delivery", "sent in more deliveries"),
        "CONTEXT_BYTES_MAX": Bound("bytes of them", "sent in more deliveries"),
        "LANES_MAX": Bound("lanes that are served at once", "dead letter"),
        "CALL_BYTES_MAX": Bound("input and headers of one call", "the report is a dead letter"),
        "OUTBOX_PER_ROW_MAX": Bound("messages sent because of one row", "an invariant: the partition stops"),
        "TICK_SWEEP_MAX": Bound("candidates that a tick decides in set-based statements", "clamped"),
        "TICK_SINGLE_MAX": Bound("candidates that a tick decides one by one", "clamped"),
        "TICK_TIMERS_MAX": Bound("timers that a tick fires", "clamped"),
        "TICK_WORK_MAX": Bound("rows that a tick touches for work items", "clamped"),
    },
    "Batches": {
        "PENDING_BATCHES_MAX": Bound(
            "batches in force on a partition at once", "queued: sent again until there is room"
        ),
        "ACTIVE_REQUESTS_MAX": Bound("batches under way over all partitions", "refused (429)"),
        "FILTER_IDS_MAX": Bound("ids in one filter", "refused (400)"),
        "GRACE_MAX_US": Bound("the grace of a cancel", "refused (400)"),
        "NOT_AFTER_US": Bound("how late a batch command may reach its partition", "refused there"),
        "REMEMBERED_US": Bound("how long a request id is remembered after that", "forgotten"),
        "PREPARED_US": Bound("how long a guarded batch may stay undecided", "refused, nothing was touched"),
        "PROGRESS_INTERVAL_US": Bound("pause between two progress records of a batch on a partition", "told later"),
        "RATE_INTERVAL_US": Bound("how often an owner looks whether a batch's rate allows more", "–"),
        "RESEND_US": Bound("silence after which a command is sent again, doubling up to 80 s", "–"),
        "STALLED_US": Bound("silence after which a partition that owes progress is shown as `stalled`", "–"),
    },
    "Invocations": {
        "RETENTION_DEFAULT_US": Bound("how long a completed one is kept where nothing else is said", "removed"),
        "CHILDREN_MAX": Bound("attached children that one invocation ever calls", "the call fails in its handler"),
        "DEPTH_MAX": Bound("attached calls above an invocation", "the call fails in its handler"),
        "DELIVERIES_MAX": Bound(
            "deliveries of a lane of a partition that nobody has answered", "queued: the lane's backlog"
        ),
        "NAME_CHARS_MAX": Bound("a service, handler, deployment or request id", "refused (400)"),
        "KEY_CHARS_MAX": Bound("a key or an idempotency key", "refused (400)"),
        "FAILURE_CHARS_MAX": Bound("the text of a failure", "cut off"),
    },
    "Participants": {
        "DEPLOYMENTS_MAX": Bound("deployments that are registered", "refused (429); on the log a dead letter"),
        "SERVICES_MAX": Bound("services of one deployment", "refused (400)"),
        "HANDLERS_MAX": Bound("handlers of one service", "refused (400)"),
        "RETENTION_MAX_US": Bound("a retention", "refused (400)"),
        "SESSIONS_MAX": Bound("participants that are connected", "refused (429)"),
        "SESSION_CAPACITY_MAX": Bound("attempts that one of them takes at once", "refused (400)"),
        "LEASE_US": Bound("silence after which one has vanished", "what it had is delivered to others"),
        "KEEP_ALIVE_US": Bound("pause in a stream of deliveries", "an empty frame is sent"),
        "REPORTS_MAX": Bound("reports in one request", "refused (400)"),
        "REPORTS_BYTES_MAX": Bound("bytes of them", "refused (413)"),
    },
    "The runtime": {
        "RUN_RECORDS_MAX": Bound("records applied in one transaction", "the next run"),
        "RUN_BYTES_MAX": Bound("bytes of such a run", "the next run"),
        "OUTBOX_UNPUBLISHED_MAX": Bound("outbox entries that the log has not acknowledged", "the partition waits"),
        "TICKS_OUTSTANDING_MAX": Bound("ticks appended and not applied, under lag; otherwise one", "the next waits"),
        "CLOCK_SKEW_US": Bound("how far an owner's clock may be behind its log's", "it appends no ticks and says so"),
    },
    "The HTTP surface": {
        "LIST_PAGE_MAX": Bound("invocations or batches of one page", "refused (400); without a limit all are listed"),
        "OUTPUT_WAIT_MAX_US": Bound("how long one request waits for an output", "refused (400)"),
        "COUNT_MAX": Bound("a number in a body", "refused (400)"),
    },
}


def limits_table() -> str:
    """Every limit with its value; an entry for each in limits.py, and none beside."""
    rows = [["limit", "value", "bounds", "beyond it"]]
    for section, bounds in LIMITS.items():
        rows.append([f"**{section}**", "", "", ""])
        rows += [[f"`{name}`", _value(name), bound.what, bound.beyond] for name, bound in bounds.items()]
    return table(rows)


def limit_names() -> list[str]:
    """The limits that the code has."""
    return [name for name in vars(limits) if name.isupper() and name not in UNITS]


def _value(name: str) -> str:
    value = getattr(limits, name)
    if name.endswith("_US"):
        return _duration(value)
    if "_BYTES" in name:
        return _bytes(value)
    return "2^53 - 1" if value == 2**53 - 1 else f"{value:,}"


def _duration(us: int) -> str:
    for size, unit in ((limits.DAY_US, "d"), (limits.HOUR_US, "h"), (60 * limits.SECOND_US, "min")):
        if us >= size and us % size == 0:
            return f"{us // size} {unit}" if (us, unit) != (limits.DAY_US, "d") else "24 h"
    return f"{us / limits.SECOND_US:g} s"


def _bytes(size: int) -> str:
    return f"{size // 2**20} MiB" if size % 2**20 == 0 else f"{size // 2**10} KiB"


# -- pages ---------------------------------------------------------------------------------------------------

PARTS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "statuses.md": {"diagram": diagram, "events": events, "answers": answers, "cases": cases, "batches": batches},
    "architecture.md": {"limits": limits_table},
}
"""Page → part → what makes it."""


def table(rows: list[list[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def rendered(page: str, text: str) -> str:
    """The page's text with its generated parts as they should be. Raises ValueError where one has no place."""
    for name, make in PARTS[page].items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- /generated -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"docs/{page} has no place for the generated part {name!r}")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def main() -> None:
    """Write every page that has drifted, and say which."""
    for page in PARTS:
        path = HERE / page
        text = path.read_text(encoding="utf-8")
        wanted = rendered(page, text)
        if wanted != text:
            path.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"docs/{page} written\n")


if __name__ == "__main__":
    main()
