"""What a participant declares: services, their handlers, and how often a failed attempt is repeated."""

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeVar, overload

import msgspec

from coordinator.model import limits
from coordinator.model.invocation import ServiceType
from coordinator.model.messages import Handler as HandlerSpec
from coordinator.model.messages import ServiceSpec
from coordinator.participant.errors import TerminalError
from coordinator.participant.values import Duration, duration_us

if TYPE_CHECKING:
    from coordinator.participant.context import Context

Function = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Function)


class RetryPolicy(NamedTuple):
    """When an attempt that failed is repeated: after `initial`, then `factor` times as long each time."""

    initial: Duration = "50ms"
    factor: float = 2.0
    maximum: Duration = "10s"
    """The longest pause."""
    attempts: int | None = 70
    """After so many that failed it is paused until somebody resumes it; None: never."""

    def pause_us(self, failed: int) -> int | None:
        """Microseconds until the next attempt when `failed` have failed; None: pause it."""
        if self.attempts is not None and failed >= self.attempts:
            return None
        initial, maximum = duration_us(self.initial), duration_us(self.maximum)
        # A float takes no more than 1,023 doublings, and long before that every pause is the longest.
        return min(maximum, int(min(initial * self.factor ** min(failed - 1, 200), float(maximum))))

    def check(self) -> None:
        """Raise ValueError unless this can be followed."""
        if self.factor < 1 or (self.attempts is not None and self.attempts < 1):
            raise ValueError(f"{self} cannot be followed: factor and attempts must be at least 1")
        duration_us(self.initial)
        duration_us(self.maximum)


class Handler(NamedTuple):
    """One handler: a function, and what it takes."""

    service: "AnyService"
    name: str
    function: Function
    shared: bool
    raw: bool
    """It takes and gives bytes."""
    takes_input: bool
    """Whether the function has a parameter beside the context."""
    decode: Callable[[bytes], Any] | None
    """JSON as the type that its parameter is annotated with; None where it is not."""

    @property
    def target(self) -> str:
        """Service and handler, as people name them."""
        return f"{self.service.name}/{self.name}"

    def call(self, context: "Context", input: bytes | None) -> Awaitable[Any]:
        """Begin the handler. Raises TerminalError when the input is not what it takes."""
        return self.function(context, self._decoded(input)) if self.takes_input else self.function(context)

    def _decoded(self, input: bytes | None) -> Any:
        if self.raw:
            return input or b""
        if input is None and self.decode is None:
            return None
        try:
            # Nothing is null, and a parameter with a type says itself whether it takes that.
            return (self.decode or _any)(b"null" if input is None else input)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            absent = "it was started without one; " if input is None else ""
            raise TerminalError(f"the input is not what {self.target} takes: {absent}{error}") from None


_any: Final = msgspec.json.Decoder().decode


class AnyService:
    """What a Service, a VirtualObject and a Workflow have in common."""

    type: ClassVar[ServiceType]

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
    ) -> None:
        """`retention`: how long an invocation is kept after its end, 24 hours without it; the other one is of those
        that were started with an idempotency key.
        """
        self.name: Final = _name(name, "a service")
        self.retry: Final = retry or RetryPolicy()
        self.retry.check()
        self.handlers: Final[dict[str, Handler]] = {}
        self._retentions: Final[dict[str, int]] = {}
        self._keep("retention", retention)
        self._keep("idempotency_retention", idempotency_retention)

    def spec(self) -> ServiceSpec:
        """What is registered of it."""
        handlers = tuple(HandlerSpec(name=h.name, shared=h.shared) for _, h in sorted(self.handlers.items()))
        return ServiceSpec(name=self.name, type=int(self.type), handlers=handlers, **self._retentions)

    def _keep(self, field: str, retention: Duration | None) -> None:
        if retention is not None:
            self._retentions[field] = duration_us(retention)

    def _declared(self, function: F | None, name: str | None, *, raw: bool, shared: bool = False) -> Any:
        """A decorator, or with a function what it makes of that."""

        def declare(function: F) -> F:
            self._add(function, _name(name or function.__name__, "a handler"), raw=raw, shared=shared)
            return function

        return declare if function is None else declare(function)

    def _add(self, function: Function, name: str, *, raw: bool, shared: bool) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"a handler is an async def, and {function!r} is not")
        if name in self.handlers:
            raise ValueError(f"{self.name} has a handler {name} already; give one of them another name")
        parameters = list(inspect.signature(function).parameters.values())
        if not 1 <= len(parameters) <= 2:
            raise TypeError(f"{self.name}/{name} must take the context and one input, or the context alone")
        takes_input = len(parameters) > 1
        decode = _decoder(function, parameters[1]) if takes_input and not raw else None
        self.handlers[name] = Handler(self, name, function, shared, raw, takes_input, decode)


class Service(AnyService):
    """Handlers that stand for themselves. Any number of their invocations run at once."""

    type = ServiceType.SERVICE

    @overload
    def handler(self, function: F) -> F: ...
    @overload
    def handler(self, *, name: str | None = None, raw: bool = False) -> Callable[[F], F]: ...
    def handler(self, function: F | None = None, *, name: str | None = None, raw: bool = False) -> Any:
        """Declare a handler: `async def greet(ctx, name)`, or without an input `async def greet(ctx)`.

        Its input comes from JSON, None when there is none; a type on the parameter is checked. `raw`: bytes in and
        out. `name` where it is not the function's.
        """
        return self._declared(function, name, raw=raw)


class KeyedService(AnyService):
    """What a VirtualObject and a Workflow have in common: keys with state."""

    @overload
    def shared(self, function: F) -> F: ...
    @overload
    def shared(self, *, name: str | None = None, raw: bool = False) -> Callable[[F], F]: ...
    def shared(self, function: F | None = None, *, name: str | None = None, raw: bool = False) -> Any:
        """Declare a handler that runs beside the others of its key, and only reads its state."""
        return self._declared(function, name, raw=raw, shared=True)


class VirtualObject(KeyedService):
    """Handlers of keys. Each key has state, and one invocation at a time that may change it, in order of arrival."""

    type = ServiceType.VIRTUAL_OBJECT

    @overload
    def handler(self, function: F) -> F: ...
    @overload
    def handler(self, *, name: str | None = None, raw: bool = False) -> Callable[[F], F]: ...
    def handler(self, function: F | None = None, *, name: str | None = None, raw: bool = False) -> Any:
        """Declare a handler that has its key for itself. As of a Service."""
        return self._declared(function, name, raw=raw)


class Workflow(KeyedService):
    """One run for each key, and shared handlers that look at its state meanwhile and afterwards."""

    type = ServiceType.WORKFLOW

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
        workflow_retention: Duration | None = None,
    ) -> None:
        """As of the others; `workflow_retention` is that of the runs."""
        super().__init__(name, retry=retry, retention=retention, idempotency_retention=idempotency_retention)
        self._keep("workflow_retention", workflow_retention)

    @overload
    def run(self, function: F) -> F: ...
    @overload
    def run(self, *, name: str | None = None, raw: bool = False) -> Callable[[F], F]: ...
    def run(self, function: F | None = None, *, name: str | None = None, raw: bool = False) -> Any:
        """Declare the handler that is the workflow; there is one."""
        if any(not handler.shared for handler in self.handlers.values()):
            raise ValueError(f"{self.name} has its run already; declare the others with @shared")
        return self._declared(function, name, raw=raw)


def _name(name: str, whose: str) -> str:
    if not 0 < len(name) <= limits.NAME_CHARS_MAX or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot name {whose}: 1 to {limits.NAME_CHARS_MAX} characters without a slash")
    return name


def _decoder(function: Function, parameter: inspect.Parameter) -> Callable[[bytes], Any] | None:
    if parameter.annotation in (inspect.Parameter.empty, Any):
        return None
    try:
        hint = typing.get_type_hints(function, include_extras=True)[parameter.name]
    except NameError as error:
        raise TypeError(f"the type of the input of {function.__name__} is not known there: {error}") from None
    return msgspec.json.Decoder(hint).decode
