"""The longest step of the owner where one record concerns very many others.

A key with a hundred thousand waiting invocations in the scope of a kill, found by their service and found by
their key; and a kill of an invocation with a hundred thousand attached children. A step is one run: from the begin of
its transaction to the end of its commit.
"""

import time

from bench import workloads
from bench.session import Numbers, Session
from bench.system import PATIENCE_S, System
from coordinator.model.filters import Filter


def measure(session: Session) -> Numbers:
    """Both kinds of kill, each after a fresh start of the owner, so that only its own steps count."""
    by_service = _key(session, Filter(service="Cart"))
    by_key = _key(session, Filter(service="Cart", key=workloads.HOT_KEY))
    children = _children(session)
    return {
        "longest_step_key_load_ms": max(by_service[0], by_key[0]),
        "longest_step_key_ms": max(by_service[1], by_key[1]),
        "kill_of_key_by_service_s": by_service[2],
        "kill_of_key_by_key_s": by_key[2],
        "longest_step_children_load_ms": children[0],
        "longest_step_children_ms": children[1],
        "kill_of_children_s": children[2],
    }


def _key(session: Session, filter: Filter) -> tuple[float, float, float]:
    """The longest step of the load and of the kill in ms, and how long the kill took in seconds."""
    count = session.scale.entries_of_key
    session.say(f"longest step: {count:,} entries of one key, killed by {'service' if filter.key is None else 'key'}")
    with session.folder() as folder:
        with System(folder) as system:
            last = system.append_all(list(workloads.of_one_key(count)))
            system.start()
            system.await_applied(last)
            load_ms = system.longest_step_ms()
        with System(folder) as system:
            system.start()
            kill_s = _kill(system, filter, matched=count, propagated=0)
            return load_ms, system.longest_step_ms(), kill_s


def _children(session: Session) -> tuple[float, float, float]:
    """The same for a parent that has called so many."""
    count = session.scale.children
    session.say(f"longest step: a parent with {count:,} children")
    parent = workloads.new_id(workloads.source("parent"))
    with session.folder() as folder:
        with System(folder) as system:
            system.append(workloads.invoke(parent, "Parent"))
            system.start()
            system.append_all(list(workloads.calls(parent, count)))
            _await_rows(system, count + 1)
            load_ms = system.longest_step_ms()
        with System(folder) as system:
            system.start()
            kill_s = _kill(system, Filter(service="Parent"), matched=1, propagated=count)
            return load_ms, system.longest_step_ms(), kill_s


def _kill(system: System, filter: Filter, *, matched: int, propagated: int) -> float:
    """Kill, and wait until all that follows has happened; in seconds."""
    start = system.progress_end()
    began = time.perf_counter()
    system.append(workloads.kill("kill", filter))
    for told in system.progress(start):
        if told.state == "completed" and told.propagated == propagated and told.sent == told.received:
            assert told.tally.ended == told.tally.matched == matched, f"all are ended: {told.tally}"
            break
    return time.perf_counter() - began


def _await_rows(system: System, count: int) -> None:
    """Wait until so many invocations were created."""
    deadline = time.perf_counter() + PATIENCE_S
    while system.state().next_seq <= count:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"only {system.state().next_seq - 1} of {count} invocations were created")
        time.sleep(0.1)
