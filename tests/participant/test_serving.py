"""Participants that are connected: in process, and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError, ConflictError
from coordinator.participant import Cancelled, Context, RetryPolicy, Service, Transport, VirtualObject, Workflow, serve
from coordinator.participant.serving import deployment_id
from tests.participant.dispatcher import Dispatcher
from tests.participant.loop import in_a_loop
from tests.participant.server import Server


@contextlib.asynccontextmanager
async def serving(dispatcher: Dispatcher, *services: Any, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A participant, in process unless told otherwise, from when it has a session."""
    options.setdefault("transport", None if "url" in options else dispatcher)
    task = asyncio.create_task(serve(*services, **options))
    await dispatcher.until(lambda: dispatcher.sessions)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def greeter(**functions: Any) -> Service:
    service = Service("Greeter", retry=RetryPolicy(initial="1ms", maximum="5ms"))
    for name, function in functions.items():
        service.handler(name=name)(function)
    return service


async def pick(ctx: Context, name: str) -> str:
    return f"{name} Lovelace"


async def greet(ctx: Context, name: str) -> str:
    full = await ctx.call("Greeter/pick", name)
    await ctx.sleep("1ms")
    return f"Hello {full}"


@pytest.fixture(params=["in process", "over HTTP"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def connected(way: str, *services: Any, **options: Any) -> AsyncIterator[Dispatcher]:
    """A dispatcher with a participant, in process or over real sockets."""
    dispatcher = Dispatcher(*services)
    async with contextlib.AsyncExitStack() as stack:
        if way == "over HTTP":
            options["url"] = (await stack.enter_async_context(Server(dispatcher).running())).url
        await stack.enter_async_context(serving(dispatcher, *services, **options))
        yield dispatcher


# -- the whole way -------------------------------------------------------------------------------------------


@in_a_loop
async def test_handlers_run_call_each_other_and_answer(way: str) -> None:
    async with connected(way, greeter(greet=greet, pick=pick)) as dispatcher:
        ids = [dispatcher.send("Greeter/greet", b'"Ada"') for _ in range(50)]
        for id in ids:
            partition = await dispatcher.ended(id)
            assert partition.completed.output == b'"Hello Ada Lovelace"'


@in_a_loop
async def test_a_suspended_handler_goes_on_from_its_journal(way: str) -> None:
    async with connected(way, greeter(greet=greet, pick=pick), inactivity=0) as dispatcher:
        partition = await dispatcher.ended(dispatcher.send("Greeter/greet", b'"Ada"'))
        assert partition.completed.output == b'"Hello Ada Lovelace"'
        assert partition.attempt > 1
        assert len(partition.steps) == 2


@in_a_loop
async def test_a_cancellation_reaches_a_handler_and_its_compensation_runs(way: str) -> None:
    undone = []

    async def undo(ctx: Context, what: str) -> None:
        undone.append(what)

    async def wait(ctx: Context) -> None:
        try:
            await ctx.sleep("100ms")
            await ctx.sleep("1h")
        except Cancelled:
            await ctx.call("Greeter/undo", "it")
            raise

    async with connected(way, greeter(wait=wait, undo=undo)) as dispatcher:
        id = dispatcher.send("Greeter/wait")
        await dispatcher.until(lambda: dispatcher.invocations[id].steps)
        dispatcher.cancel(id)
        partition = await dispatcher.ended(id)
        assert partition.completed.outcome == "cancelled"
        assert undone == ["it"]


@in_a_loop
async def test_a_failed_attempt_is_repeated_and_its_run_is_not(way: str) -> None:
    calls = []

    async def charge(ctx: Context) -> Any:
        number = await ctx.run("charge", lambda: calls.append(threading.get_ident()) or len(calls))
        if ctx.retry < 2:
            raise OSError("away")
        return [number, ctx.retry]

    async with connected(way, greeter(charge=charge)) as dispatcher:
        partition = await dispatcher.ended(_retrying(dispatcher, "Greeter/charge"))
        assert partition.completed.output == b"[1,2]"
        assert len(calls) == 1
        assert calls[0] != threading.get_ident(), "a plain function may block, so it runs in a thread"


def _retrying(dispatcher: Dispatcher, target: str) -> str:
    """Start it; each attempt is told how many have failed."""
    id = dispatcher.send(target)
    partition = dispatcher.invocations[id]
    apply = partition.apply

    def counting(report: messages.Report) -> None:
        apply(report)
        if isinstance(report, messages.BackingOff):
            partition._fields["retry"] = report.retry

    partition.apply = counting  # type: ignore[method-assign]
    return id


@in_a_loop
async def test_what_asyncio_offers_works_in_a_handler(way: str) -> None:
    async def wait(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "over"
        raise AssertionError

    async with connected(way, greeter(wait=wait)) as dispatcher:
        partition = await dispatcher.ended(dispatcher.send("Greeter/wait"))
        assert partition.completed.output == b'"over"'


# -- attempts that are taken back ----------------------------------------------------------------------------


@in_a_loop
async def test_a_dropped_handler_is_interrupted_wherever_it_is() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hang(ctx: Context) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with connected("in process", greeter(hang=hang)) as dispatcher:
        id = dispatcher.send("Greeter/hang")
        await began.wait()
        dispatcher.drop(id)
        await ended.wait()


@in_a_loop
async def test_a_report_that_comes_too_late_ends_the_attempt() -> None:
    ended = asyncio.Event()

    async def wait(ctx: Context) -> None:
        try:
            await ctx.call("Greeter/wait")
        finally:
            ended.set()

    async with connected("in process", greeter(wait=wait), inactivity="1h") as dispatcher:
        dispatcher.refusals[messages.Steps] = (409, None, "it is over")
        dispatcher.send("Greeter/wait")
        await ended.wait()


@in_a_loop
async def test_a_refused_report_pauses_the_invocation_and_says_why() -> None:
    async with connected("in process", greeter(greet=greet, pick=pick)) as dispatcher:
        dispatcher.refusals[messages.Steps] = (400, None, "no room")
        partition = await dispatcher.ended(dispatcher.send("Greeter/greet", b'"Ada"'))
        assert isinstance(partition.ending, messages.Paused)
        assert partition.ending.failure == "its Steps was refused: no room"


@in_a_loop
async def test_a_handler_that_this_participant_does_not_have_fails() -> None:
    async with connected("in process", greeter(greet=greet)) as dispatcher:
        dispatcher.services["Greeter"] = greeter(greet=greet, gone=greet)
        partition = await dispatcher.ended(dispatcher.send("Greeter/gone"))
        assert partition.completed.outcome == "failure"
        assert "has no handler Greeter/gone; it has greet" in str(partition.completed.failure)


# -- connections that break ----------------------------------------------------------------------------------


@in_a_loop
async def test_a_stream_that_breaks_off_is_opened_again(way: str) -> None:
    async with connected(way, greeter(greet=greet, pick=pick)) as dispatcher:
        await dispatcher.ended(dispatcher.send("Greeter/greet", b'"Ada"'))
        dispatcher.break_streams()
        partition = await dispatcher.ended(dispatcher.send("Greeter/greet", b'"Ada"'))
        assert partition.completed.outcome == "success"
        assert len(dispatcher.sessions) == 1


@in_a_loop
async def test_when_its_session_is_over_it_opens_another_and_forgets_what_it_ran(way: str) -> None:
    stopped = asyncio.Event()

    async def wait(ctx: Context) -> str:
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
        return "by another"

    async with connected(way, greeter(wait=wait)) as dispatcher:
        id = dispatcher.send("Greeter/wait")
        await dispatcher.until(lambda: dispatcher.reports)
        (session,) = dispatcher.sessions
        dispatcher.end_session(session)
        await stopped.wait()
        partition = await dispatcher.ended(id)
        assert partition.completed.output == b'"by another"'


@in_a_loop
async def test_reports_are_sent_again_until_they_go_and_in_their_order() -> None:
    service = greeter(greet=greet, pick=pick)
    dispatcher = Dispatcher(service)
    async with Server(dispatcher).running() as server, serving(dispatcher, service, url=server.url):
        server.instead = [("/reports", 503, {"detail": "no owner"}), ("/reports", 500, None)]
        partition = await dispatcher.ended(dispatcher.send("Greeter/greet", b'"Ada"'))
        assert partition.completed.outcome == "success"
        assert server.instead == []


@in_a_loop
async def test_a_server_that_is_not_ready_is_waited_for() -> None:
    service = greeter(greet=greet, pick=pick)
    dispatcher = Dispatcher(service)
    server = Server(dispatcher)
    server.instead = [("/deployments", 503, {"detail": "not yet"}), ("/sessions", 404, {"detail": "who?"})]
    async with server.running(), serving(dispatcher, service, url=server.url):
        assert server.asked.count(("POST", "/deployments")) == 3
    async with asyncio.TaskGroup() as group:  # nobody listens there any more
        task = group.create_task(serve(service, url=server.url))
        with structlog.testing.capture_logs() as logs:
            while not logs:  # noqa: ASYNC110 - a log line is no event
                await asyncio.sleep(0.01)
        assert "start one with `coordinator serve`" in logs[0]["error"]
        task.cancel()


@in_a_loop
async def test_a_participant_that_has_nothing_to_say_says_that_it_lives(way: str) -> None:
    service = greeter(greet=greet)
    Dispatcher.lease_s, before = 0.03, Dispatcher.lease_s
    try:
        async with connected(way, service) as dispatcher:
            await dispatcher.until(lambda: dispatcher.heartbeats > 2)
    finally:
        Dispatcher.lease_s = before


# -- coming and going ----------------------------------------------------------------------------------------


@in_a_loop
async def test_a_handler_that_blocks_the_loop_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "lease_s", 0.3)

    async def block(ctx: Context, name: str) -> None:
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - what it must not do

    with structlog.testing.capture_logs() as logs:
        async with connected("in process", greeter(block=block)) as dispatcher:
            await dispatcher.until(lambda: dispatcher.heartbeats > 1)
            dispatcher.send("Greeter/block", b'"Ada"')
            await dispatcher.until(lambda: any(line.get("seconds", 0) >= 0.3 for line in logs))
    complaints = [line for line in logs if "stood still" in line["event"]]
    assert all(line["seconds"] >= 0.1 for line in complaints), "what came in time is nothing to complain of"


@in_a_loop
async def test_a_cancelled_participant_says_what_is_done_and_gives_back_the_rest(way: str) -> None:
    began = asyncio.Event()

    async def hang(ctx: Context) -> None:
        began.set()
        await asyncio.Event().wait()

    async with connected(way, greeter(hang=hang)) as dispatcher:
        id = dispatcher.send("Greeter/hang")
        await began.wait()
        (session,) = dispatcher.sessions
    assert dispatcher.left == [session]
    assert [type(report) for reports in dispatcher.reports for report in reports] == [messages.Started]
    assert dispatcher.invocations[id].ending is None


@in_a_loop
async def test_reports_of_many_attempts_go_together() -> None:
    async def nothing(ctx: Context) -> None:
        return None

    async with connected("in process", greeter(nothing=nothing)) as dispatcher:
        ids = [dispatcher.send("Greeter/nothing") for _ in range(500)]
        for id in ids:
            await dispatcher.ended(id)
        assert sum(map(len, dispatcher.reports)) == 1_000
        assert len(dispatcher.reports) < 50


@in_a_loop
async def test_one_request_stays_below_what_a_server_takes() -> None:
    async def large(ctx: Context) -> str:
        return "x" * (limits.CALL_BYTES_MAX - 10)

    service = greeter(large=large)
    dispatcher = Dispatcher(service)
    async with serving(dispatcher, service):
        sizes = []
        report = dispatcher.report

        async def measured(session: str, body: bytes) -> Any:
            sizes.append(len(body))
            return await report(session, body)

        dispatcher.report = measured  # type: ignore[method-assign]
        for id in [dispatcher.send("Greeter/large") for _ in range(20)]:
            await dispatcher.ended(id)
    assert max(sizes) <= limits.REPORTS_BYTES_MAX


@in_a_loop
async def test_the_deployment_is_registered_as_it_was_declared() -> None:
    order = Workflow("Order", retention="2h", workflow_retention="7d")
    order.run(name="run")(greet)
    order.shared(name="status")(pick)
    cart = VirtualObject("Cart")
    cart.handler(name="add")(greet)
    dispatcher = Dispatcher(order, cart)
    server = Server(dispatcher)
    async with server.running(), serving(dispatcher, order, cart, url=server.url, token="secret", capacity=7):
        pass
    specs = (order.spec(), cart.spec())
    assert dispatcher.deployments == {deployment_id(specs): specs}
    assert deployment_id(specs) == deployment_id(specs[::-1])
    assert server.tokens == {"Bearer secret"}


@in_a_loop
async def test_another_deployment_under_its_id_ends_it(way: str) -> None:
    service = greeter(greet=greet)
    async with connected(way, service, deployment="dp_1") as dispatcher:
        other = Server(dispatcher)
        async with other.running():
            with pytest.raises(ConflictError, match="dp_1 has other services"):
                await serve(greeter(pick=pick), url=other.url, deployment="dp_1")


@in_a_loop
async def test_what_cannot_be_served_is_refused() -> None:
    for services, said in (((), "nothing to serve"), ((greeter(), greeter()), "two services"), ((greeter(),), "no h")):
        with pytest.raises(ValueError, match=said):
            await serve(*services)
    with pytest.raises(CallerError, match="is no http"):
        await serve(greeter(greet=greet), url="ftp://x")


def test_a_transport_is_what_a_dispatcher_has() -> None:
    transport: Transport = Dispatcher()
    assert transport


def test_sigterm_ends_a_participant_process_and_gives_back_what_it_runs() -> None:
    asyncio.run(_sigterm())


async def _sigterm() -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from coordinator.participant import Service, run
        greeter = Service("Greeter")

        @greeter.handler
        async def hang(ctx):
            await asyncio.Event().wait()

        run(greeter, url=sys.argv[1])
        """
    )
    dispatcher = Dispatcher(greeter(hang=greet))
    async with Server(dispatcher).running() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, server.url, stdout=subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            await dispatcher.until(lambda: dispatcher.sessions)
            dispatcher.send("Greeter/hang")
            await dispatcher.until(lambda: dispatcher.reports)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert len(dispatcher.left) == 1


# -- the log -------------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_handler_logs_a_thing_once_however_often_it_is_replayed() -> None:
    async def wait(ctx: Context) -> None:
        ctx.log.info("began")
        await ctx.sleep("30ms")
        ctx.log.bind(amount=5).info("went on")

    with structlog.testing.capture_logs() as logs:
        async with connected("in process", greeter(wait=wait), inactivity=0) as dispatcher:
            id = dispatcher.send("Greeter/wait")
            await dispatcher.ended(id)
    said = [line for line in logs if line.get("invocation") == id]
    assert [line["event"] for line in said] == ["began", "went on"]
    assert (said[1]["target"], said[1]["amount"]) == ("Greeter/wait", 5)
