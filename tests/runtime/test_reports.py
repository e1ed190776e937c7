"""Reports as they are appended: what passes unchanged, what is set, what is refused."""

import pytest

from coordinator.model import limits, messages
from coordinator.model.errors import CallerError
from coordinator.model.ids import invocation_id
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.requests.deployments import Registry
from coordinator.runtime.dispatch.reports import read

ID = invocation_id(1, 1)
CART = ServiceSpec(
    name="Cart", type=1, handlers=(Handler(name="add"), Handler(name="look", shared=True)), idempotency_retention=7
)
REGISTRY = Registry().with_registered(Register(deployment="dp_1", services=(CART,)), 0)


def appended(report: messages.Message) -> messages.Command:
    return messages.decode_command(read(messages.encode(report), "dp_1", REGISTRY).value)  # type: ignore[no-any-return]


def test_what_needs_nothing_stands_on_the_log_as_it_was_sent() -> None:
    value = messages.encode(messages.Completed(id=ID, attempt=3, outcome="success", output=b"x"))
    found = read(value, "dp_1", REGISTRY)
    assert found.value is value
    assert (found.report.id, found.report.attempt) == (ID, 3)


def test_a_start_is_of_the_deployment_of_its_session() -> None:
    for told in (None, "dp_other"):
        report = appended(messages.Started(id=ID, attempt=1, deployment=told))
        assert report == messages.Started(id=ID, attempt=1, deployment="dp_1")


def test_calls_have_their_terms_from_the_registry_whatever_they_say() -> None:
    said = {"type": 2, "shared": True, "retention": 1}
    calls = (
        Call(service="Cart", handler="look", key="c1", idempotency_key="k"),
        Call(service="Cart", handler="add", key="c1", **said),
        Call(service="Nobody", handler="x", **said),
    )
    steps = (*(Step(kind=StepKind.CALL, call=call) for call in calls), Step(kind=StepKind.RUN, value=b"1"))
    report = appended(messages.Steps(id=ID, attempt=1, first=4, steps=steps))
    assert isinstance(report, messages.Steps)
    terms = [(step.call.type, step.call.shared, step.call.retention) for step in report.steps if step.call is not None]
    assert terms == [
        (1, True, 7),
        (1, False, limits.RETENTION_DEFAULT_US),
        (0, False, limits.RETENTION_DEFAULT_US),
    ]
    assert (report.first, report.steps[3].value) == (4, b"1")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        messages.encode(messages.Act(action="kill", id=ID)),
        messages.encode(messages.Serve(lanes=(), reclaim=True)),
        messages.encode(messages.Completed(id=ID, attempt=1, outcome="success", source=1, number=9)),
        messages.encode(messages.Released(id=ID, attempt=1, v=2)),
        messages.encode(messages.Completed(id=ID, attempt=1, outcome="success", output=bytes(limits.RECORD_BYTES_MAX))),
    ],
    ids=["nothing", "noise", "an action", "lanes", "of a partition", "of a newer schema", "too large"],
)
def test_what_is_not_a_participants_to_say_does_not_pass(value: bytes) -> None:
    with pytest.raises(CallerError):
        read(value, "dp_1", REGISTRY)
