"""Keyset pagination of a long answer: a page begins after the row with a key, not at an offset.

Invariant: successive pages hold each row once, even if events are stored between the requests. A row's key is its
bucket and groups, and the order of rows does not depend on figures. If the range is relative, the cursor contains the
instant that the first page called now, so all pages have the same buckets.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from reporter.parameters import AFTER, LIMIT
from reporter.query_params import BadQuery, QueryParams

Row = TypeVar("Row")


class Cursor(msgspec.Struct, frozen=True):
    """Where a page of a relative range begins. now: the instant of the first page; after: the key of a row."""

    now: datetime
    after: list[Any]


class Page(msgspec.Struct, frozen=True):
    """The rows to return: at most `limit` of those after the row with the key `after`. None means no bound."""

    limit: int | None
    after: list[Any] | None


def parse_now(params: QueryParams) -> datetime | None:
    """Return the instant that the first page of a relative range called now. Raises BadQuery."""
    cursor = _parse_cursor(params)
    return cursor.now if isinstance(cursor, Cursor) else None


def parse_page(params: QueryParams) -> Page:
    """Parse `limit` and `after`. Raises BadQuery."""
    limit = params.get(LIMIT)
    cursor = _parse_cursor(params)
    return Page(limit, cursor.after if isinstance(cursor, Cursor) else cursor)


def _parse_cursor(params: QueryParams) -> Cursor | list[Any] | None:
    if (text := params.get(AFTER)) is None:
        return None
    try:
        cursor = msgspec.json.decode(
            urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)), type=Cursor | list[Any]
        )
    except (ValueError, RecursionError):
        raise BadQuery(AFTER.name, "is not a valid cursor: copy `next` of the previous page unchanged") from None
    if isinstance(cursor, Cursor) and cursor.now.tzinfo is None:
        raise BadQuery(AFTER.name, "is not a valid cursor: copy `next` of the previous page unchanged")
    return cursor


def cut_page(
    rows: Sequence[Row], page: Page, key: Callable[[Row], Sequence[Any]], now: datetime | None = None
) -> tuple[list[Row], str | None]:
    """Return the rows of the page, and `after` of the next page, None if this is the last one.

    now: the instant of a relative range. Raises BadQuery if there is no row with the key `page.after`.
    """
    start = 0
    if page.after is not None:
        keys = (msgspec.to_builtins(list(key(row))) for row in rows)
        start = next((number for number, row_key in enumerate(keys, start=1) if row_key == page.after), 0)
        if not start:
            raise BadQuery(AFTER.name, "belongs to another query: use `next` of the previous page of the same query")
    if page.limit is None or start + page.limit >= len(rows):
        return list(rows[start:]), None
    page_rows = list(rows[start : start + page.limit])
    after = list(key(page_rows[-1]))
    cursor = after if now is None else Cursor(now, after)
    return page_rows, urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()
