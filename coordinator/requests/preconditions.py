"""What may be asked of a request as it is known: the same for everybody who asks, by whatever way.

The machine takes what it finds on the log and never answers; whoever asks looks here first.
"""

from coordinator.model.errors import ConflictError, NotFoundError
from coordinator.model.messages import Submit
from coordinator.requests import lifecycle, submission
from coordinator.requests.state import Request


def known(request: Request | None, id: str) -> Request:
    """The request, which was submitted. Raises NotFoundError when it was not, or is forgotten."""
    if request is None or request.submission is None:
        raise NotFoundError(f"there is no batch {id}, or no longer")
    return request


def check_repeats(request: Request, submit: Submit) -> None:
    """Raise ConflictError when its id was submitted for something else."""
    if request.submission is None or not submission.repeats(request.submission, submit):
        raise ConflictError(f"batch {submit.request} was submitted with another body; use another request id")


def can_change(request: Request, *, aborted: bool) -> bool:
    """Whether a control has anything to do, of which `aborted` says that it is an abort.

    Only aborting what is aborted has nothing. Raises ConflictError when the request is over, and no grace of it is left
    to be called off.
    """
    state = lifecycle.state(request)
    if aborted and state is lifecycle.State.ABORTED:
        return False
    if lifecycle.finished_at(request) is not None and not (aborted and lifecycle.awaits_grace(request)):
        raise ConflictError(f"batch {request.id} is {state}; nothing of it is left to change")
    return True


def paused(request: Request) -> bool:
    """Whether a pause that was asked for has arrived everywhere, or there is nothing left to pause."""
    return lifecycle.state(request) is lifecycle.State.PAUSED or lifecycle.finished_at(request) is not None


def over(request: Request) -> bool:
    """Whether an abort that was asked for has arrived everywhere: nothing acts on its account any more."""
    return lifecycle.finished_at(request) is not None and not lifecycle.awaits_grace(request)
