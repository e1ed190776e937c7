"""The registry: order, repetition, conflict, and what an invocation has from its service."""

import pytest

from coordinator.model import limits
from coordinator.model.errors import CallerError, NotFoundError
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.requests.deployments import Registry, Terms, check

GREETER = ServiceSpec(name="Greeter", handlers=(Handler(name="greet"),), retention=1, idempotency_retention=2)
CART = ServiceSpec(name="Cart", type=1, handlers=(Handler(name="add"), Handler(name="look", shared=True)), retention=3)
ORDER = ServiceSpec(
    name="Order",
    type=2,
    handlers=(Handler(name="run"), Handler(name="look", shared=True)),
    retention=4,
    workflow_retention=5,
)


def registry(*events: Register) -> Registry:
    known = Registry()
    for at, event in enumerate(events):
        known = known.with_registered(event, at)
    return known


def test_a_service_belongs_to_the_latest_deployment_that_has_it() -> None:
    known = registry(
        Register(deployment="dp_1", services=(GREETER, CART)),
        Register(deployment="dp_2", services=(GREETER,)),
    )
    assert known.latest["Greeter"].deployment.id == "dp_2"
    assert known.latest["Cart"].deployment.id == "dp_1"
    assert [(one.number, one.registered_at) for one in known.deployments] == [(1, 0), (2, 1)]


def test_registering_again_changes_nothing_whether_it_is_the_same_or_not() -> None:
    known = registry(Register(deployment="dp_1", services=(GREETER,)), Register(deployment="dp_2", services=(GREETER,)))
    assert known.with_registered(Register(deployment="dp_1", services=(GREETER,)), 9) is known
    assert known.with_registered(Register(deployment="dp_1", services=(CART,)), 9) is known


@pytest.mark.parametrize(
    ("target", "idempotency_key", "terms"),
    [
        (("Greeter", "greet", None), None, Terms(ServiceType.SERVICE, False, 1)),
        (("Greeter", "greet", None), "k", Terms(ServiceType.SERVICE, False, 2)),
        (("Cart", "add", "c1"), None, Terms(ServiceType.VIRTUAL_OBJECT, False, 3)),
        (("Cart", "look", "c1"), None, Terms(ServiceType.VIRTUAL_OBJECT, True, 3)),
        (("Order", "run", "o1"), "k", Terms(ServiceType.WORKFLOW, False, 5)),
        (("Order", "look", "o1"), None, Terms(ServiceType.WORKFLOW, True, 4)),
        (("Cart", "look", None), None, Terms(ServiceType.SERVICE, False, limits.RETENTION_DEFAULT_US)),
        (("Nobody", "x", "k"), None, Terms(ServiceType.VIRTUAL_OBJECT, False, limits.RETENTION_DEFAULT_US)),
        (("Nobody", "x", None), None, Terms(ServiceType.SERVICE, False, limits.RETENTION_DEFAULT_US)),
    ],
)
def test_an_invocation_has_its_terms_from_its_service(
    target: tuple[str, str, str | None], idempotency_key: str | None, terms: Terms
) -> None:
    known = registry(Register(deployment="dp_1", services=(GREETER, CART, ORDER)))
    assert known.terms(*target, idempotency_key) == terms


def test_a_target_is_held_against_its_service() -> None:
    known = registry(Register(deployment="dp_1", services=(GREETER, CART)))
    for target in (("Greeter", "greet", None), ("Cart", "look", "c1"), ("Nobody", "x", None), ("Nobody", "x", "k")):
        known.check_target(*target)
    with pytest.raises(NotFoundError, match="it has add, look"):
        known.check_target("Cart", "remove", "c1")
    with pytest.raises(CallerError, match="its target is Cart/KEY/add") as raised:
        known.check_target("Cart", "add", None)
    assert raised.value.field == "key"
    with pytest.raises(CallerError, match="its target is Greeter/greet") as raised:
        known.check_target("Greeter", "greet", "k")
    assert raised.value.field == "key"


@pytest.mark.parametrize(
    "event",
    [
        Register(deployment="", services=(GREETER,)),
        Register(deployment="dp_1", services=()),
        Register(deployment="dp_1", services=(GREETER, GREETER)),
        Register(deployment="dp_1", services=(ServiceSpec(name="Greeter", handlers=()),)),
        Register(deployment="dp_1", services=(ServiceSpec(name="G\0", handlers=GREETER.handlers),)),
        Register(deployment="dp_1", services=(ServiceSpec(name="G", type=3, handlers=GREETER.handlers),)),
        Register(deployment="dp_1", services=(ServiceSpec(name="G", handlers=CART.handlers),)),
        Register(deployment="dp_1", services=(ServiceSpec(name="G", handlers=GREETER.handlers, retention=-1),)),
        Register(deployment="dp_1", services=(ServiceSpec(name="G", handlers=(*GREETER.handlers,) * 2),)),
        Register(deployment="d" * 257, services=(GREETER,)),
    ],
)
def test_what_cannot_be_meant_so_is_refused(event: Register) -> None:
    with pytest.raises(CallerError):
        check(event)
    with pytest.raises(CallerError):
        Registry().with_registered(event, 0)


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEPLOYMENTS_MAX", 2)
    known = registry(*(Register(deployment=f"dp_{number}", services=(GREETER,)) for number in range(2)))
    with pytest.raises(CallerError, match="no more go"):
        known.with_registered(Register(deployment="dp_3", services=(GREETER,)), 0)
