"""The route that waits for an invocation's end and answers with what it has come to."""

from typing import Any, Final

import msgspec

from coordinator.http.contract import Operation, Parameter, Success, gateway_of, route
from coordinator.http.invocations import Acted
from coordinator.http.problems import EndedOtherwiseError
from coordinator.http.reading import AnyRequest, query, segment, single
from coordinator.http.replies import JSON, Reply, json_reply
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.times import parse_duration

BYTES: Final = "application/octet-stream"
_WAIT_DEFAULT: Final = "30s"


@route(
    "GET",
    "/invocations/{id:str}/output",
    Operation(
        id="getOutput",
        summary="What an invocation has returned, once it has ended",
        parameters=(Parameter("timeout", "How long to wait for its end: 30s, 5m at most"),),
        answers={
            200: Success("What it returned: JSON if it is that, else any bytes", Any, media="*/*"),
            202: Success("It has not ended in time; ask again", Acted),
            204: Success("It has succeeded and returned nothing", media=None),
        },
        problems=(400, 404, 424, 503),
    ),
)
async def get_output(request: AnyRequest) -> Reply:
    """Wait for it."""
    timeout_us = _timeout_us(single(query(request, "timeout"), "timeout") or _WAIT_DEFAULT)
    id = segment(request.path_params["id"])
    invocation, output = await gateway_of(request).ending(id, timeout_us / limits.SECOND_US)
    if invocation.outcome is None:
        return json_reply(202, Acted(invocation.id, invocation.status))
    if invocation.outcome != "success":
        raise EndedOtherwiseError(invocation.id, invocation.outcome, invocation.last_failure)
    if not output:
        return Reply(204, b"")
    return Reply(200, output, media=JSON if _is_json(output) else BYTES)


def _timeout_us(text: str) -> int:
    try:
        timeout_us = parse_duration(text)
    except CallerError as error:
        raise CallerError(f"timeout: {error}", field="timeout") from None
    if timeout_us > limits.OUTPUT_WAIT_MAX_US:
        raise CallerError("timeout may be 5m at most; ask again for longer", field="timeout")
    return timeout_us


def _is_json(output: bytes) -> bool:
    try:
        msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


ROUTES: Final[list[Any]] = [get_output]
