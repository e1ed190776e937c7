"""The query of a listing: which invocations, how many, from where on; and where its next page is."""

from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from coordinator.http.reading import AnyRequest, header, query, single
from coordinator.model import filters, limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import Filter
from coordinator.requests.body import TEXTS, TIMES, when

MANY: Final = ("status", "ids")
PAGING: Final = ("limit", "cursor")
PARAMETERS: Final = (*TEXTS, *MANY, *TIMES, "all", *PAGING)


class Listing(NamedTuple):
    """What is asked for."""

    filter: Filter
    limit: int | None
    cursor: str | None


def parse(request: AnyRequest, now_us: int) -> Listing:
    """The listing that a query string asks for. Raises CallerError, naming the parameter."""
    values = query(request, *PARAMETERS)
    given: dict[str, Any] = {name: text for name in TEXTS if (text := single(values, name)) is not None}
    given |= {name: when(text, name, now_us) for name in TIMES if (text := single(values, name)) is not None}
    given |= {name: tuple(values[name]) for name in MANY if name in values}
    filter = Filter(**given, all=_flag(single(values, "all"), "all"))
    try:
        filters.check(filter, may_be_empty=True)
    except CallerError as error:
        # Said of a batch's body, where the filter is a field.
        name = (error.field or "").removeprefix("filter.")
        raise CallerError(str(error).replace("filter.", ""), field=name) from None
    return Listing(filter, *_paging(values))


class Page(NamedTuple):
    """What is asked for of a list that has no filter."""

    limit: int | None
    cursor: str | None


def parse_page(request: AnyRequest) -> Page:
    """The page that a query string asks for. Raises CallerError, naming the parameter."""
    return _paging(query(request, *PAGING))


def next_page(request: AnyRequest, path: str, parameters: tuple[str, ...], cursor: str) -> dict[str, str]:
    """The header for what comes behind a cursor: the same query from there on."""
    values = query(request, *parameters)
    values["cursor"] = [cursor]
    host = header(request.scope, b"host")
    origin = f"{request.scope['scheme']}://{host}" if host else ""
    return {"link": f'<{origin}{path}?{urlencode(values, doseq=True)}>; rel="next"'}


def _paging(values: dict[str, list[str]]) -> Page:
    return Page(_limit(single(values, "limit")), single(values, "cursor"))


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= limits.LIST_PAGE_MAX):
        message = f"limit is a number from 1 to {limits.LIST_PAGE_MAX}; without one all are listed"
        raise CallerError(message, field="limit")
    return int(text)


def _flag(text: str | None, field: str) -> bool:
    if text not in (None, "true", "false"):
        raise CallerError(f"{field} is true or false", field=field)
    return text == "true"
