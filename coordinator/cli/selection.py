"""Which invocations a command means: the queries and filters that were typed, as one filter."""

from typing import TYPE_CHECKING, Final

from coordinator.cli.flags import FilterFlags
from coordinator.model.errors import CallerError

if TYPE_CHECKING:
    from coordinator.client import Filter

ID_PREFIX: Final = "inv_"


def filter_of(queries: list[str], flags: FilterFlags, *, killed_by: str | None = None) -> "Filter":
    """Queries and flags together. Raises CallerError when the queries cannot be one filter."""
    from coordinator.client import Filter

    ids = list(dict.fromkeys(query for query in queries if query.startswith(ID_PREFIX)))
    targets = [query for query in queries if not query.startswith(ID_PREFIX)]
    if len(targets) > 1:
        raise CallerError("several targets are several batches; give one target, or ids only", field="query")
    if targets and ids:
        raise CallerError("a target and ids do not go together; give one target, or ids only", field="query")
    return Filter(
        target=targets[0] if targets else None,
        ids=ids or None,
        service=flags.service,
        handler=flags.handler,
        key=flags.key,
        status=flags.status or None,
        deployment=flags.on_deployment,
        created_before=flags.created_before,
        created_after=flags.created_after,
        modified_before=flags.modified_before,
        modified_after=flags.modified_after,
        killed_by=killed_by,
        all=flags.all,
    )


def one_id(filter: "Filter") -> str | None:
    """The id, where the filter can only mean one invocation."""
    ids = list(filter.ids or ())
    return ids[0] if len(ids) == 1 else None


def only_ids(filter: "Filter") -> bool:
    """Whether nothing but ids was said."""
    return filter.to_json().keys() == {"ids"}


def check_not_empty(filter: "Filter") -> None:
    """Raise CallerError when nothing was said: a slip of the finger must not mean everything."""
    if not filter.to_json():
        raise CallerError(
            "say which invocations: an id, a target such as Greeter/greet, filters such as --service, or --all",
            field="query",
        )


def in_words(filter: "Filter") -> str:
    """The filter for a person: `target Greeter, status running or paused`."""
    parts = []
    for name, value in filter.to_json().items():
        if name == "all":
            continue
        shown = f"{len(value)} ids" if name == "ids" else " or ".join(value) if isinstance(value, list) else value
        parts.append(shown if name == "ids" else f"{name.replace('_', ' ')} {shown}")
    return ", ".join(parts) or "all"
