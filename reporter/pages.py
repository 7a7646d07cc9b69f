"""Pages of a long answer, by key: a page begins after a row, not at a number.

Invariant: whatever is stored meanwhile, pages that follow one another hold each row once, because a row is found again
by what it is of (its bucket and groups), in an order that does not depend on figures.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from reporter.parameters import AFTER, LIMIT
from reporter.query import BadQuery, QueryParams

Row = TypeVar("Row")


class Page(msgspec.Struct, frozen=True):
    """Which rows are asked for: at most `limit` of those after the one with the key `after`; all without."""

    limit: int | None
    after: list[Any] | None


def page(params: QueryParams) -> Page:
    """Raises BadQuery."""
    limit = params.get(LIMIT)
    if (text := params.get(AFTER)) is None:
        return Page(limit, None)
    try:
        after = msgspec.json.decode(urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)), type=list[Any])
    except (ValueError, RecursionError):
        raise BadQuery(AFTER.name, "has to be `next` of the page before, as it is") from None
    return Page(limit, after)


def cut(rows: Sequence[Row], params: Page, key: Callable[[Row], Sequence[Any]]) -> tuple[list[Row], str | None]:
    """The rows of the page, and what to ask for the next one; None where there is none.

    Raises BadQuery where the row that the page begins after is not there.
    """
    start = 0
    if params.after is not None:
        keys = (msgspec.to_builtins(list(key(row))) for row in rows)
        start = next((number for number, found in enumerate(keys, start=1) if found == params.after), 0)
        if not start:
            raise BadQuery(AFTER.name, "is of another query: it has to be `next` of the same one's page before")
    if params.limit is None or start + params.limit >= len(rows):
        return list(rows[start:]), None
    found = list(rows[start : start + params.limit])
    return found, urlsafe_b64encode(msgspec.json.encode(list(key(found[-1])))).rstrip(b"=").decode()
