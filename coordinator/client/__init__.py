"""The Python client: submit batches, follow their progress, act on invocations, over HTTP.

`Client` is the way in; requests are built by `kill(Filter(...))` and its like. May import `coordinator.model`
and nothing else of the project; may be imported from the command line and by users.
"""

from coordinator.client.batch import Batch
from coordinator.client.client import Client
from coordinator.client.errors import (
    EndedError,
    RejectedError,
    ServerError,
    UnauthorizedError,
    UnfinishedError,
    UnreachableError,
)
from coordinator.client.requests import BatchRequest, Filter, cancel, count, kill, pause, purge, restart_as_new, resume
from coordinator.client.views import (
    Acted,
    ImportFault,
    ImportReport,
    Invocation,
    InvocationDetails,
    PartitionInfo,
    PartitionProgress,
    PendingBatch,
    Progress,
)
from coordinator.model.errors import ConflictError, CoordinatorError, NotFoundError

__all__ = [
    "Acted",
    "Batch",
    "BatchRequest",
    "Client",
    "ConflictError",
    "CoordinatorError",
    "EndedError",
    "Filter",
    "ImportFault",
    "ImportReport",
    "Invocation",
    "InvocationDetails",
    "NotFoundError",
    "PartitionInfo",
    "PartitionProgress",
    "PendingBatch",
    "Progress",
    "RejectedError",
    "ServerError",
    "UnauthorizedError",
    "UnfinishedError",
    "UnreachableError",
    "cancel",
    "count",
    "kill",
    "pause",
    "purge",
    "restart_as_new",
    "resume",
]
