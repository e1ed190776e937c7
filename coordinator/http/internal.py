"""Routes between the processes of one system on Kafka: what owners tell, and questions to them.

They are no part of the contract with users: both ends are builds of this project, and bodies are msgpack. Whoever can
reach them can read every invocation, as everybody can who reaches the other routes.
"""

from typing import Any, Final

import msgspec

from coordinator.http.contract import route, worker_of
from coordinator.http.reading import AnyRequest, read_body
from coordinator.http.replies import Reply, StreamReply
from coordinator.model import limits
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.runtime.group import questions
from coordinator.runtime.group.owned import NotOwnedError
from coordinator.runtime.group.questions import ASKED, Refusal

FRAMES: Final = "application/octet-stream"
MSGPACK: Final = "application/msgpack"

_encode: Final = msgspec.msgpack.Encoder().encode


@route("GET", "/internal/told")
async def told(request: AnyRequest) -> Reply:
    """What the owners of this process tell, until one end goes away."""
    return StreamReply(worker_of(request).told(), media=FRAMES)


@route("POST", "/internal/partitions/{partition:int}")
async def ask(request: AnyRequest) -> Reply:
    """Answer a question about a partition."""
    body = await read_body(request, limits.RECORD_BYTES_MAX)
    try:
        asked = ASKED.decode(body)
        answer = await worker_of(request).answer(request.path_params["partition"], asked)
    except NotOwnedError as error:
        return _refused(questions.NOT_OWNED, str(error))
    except TransientError as error:
        return _refused(questions.UNAVAILABLE, str(error))
    except CorruptionError as error:
        return _refused(questions.DAMAGED, str(error))
    except msgspec.DecodeError as error:
        # A newer build asks: whoever asks learns that this one cannot, and the operator that builds differ.
        return _refused(questions.UNAVAILABLE, f"the question is not understood by this build: {error}")
    return Reply(questions.ANSWERED, _encode(answer), media=MSGPACK)


def _refused(status: int, text: str) -> Reply:
    return Reply(status, _encode(Refusal(text)), media=MSGPACK)


ROUTES: Final[list[Any]] = [told, ask]
