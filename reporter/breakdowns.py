"""The statements that read breakdowns: see `read` in sql/report_breakdowns.sql for their parameters and columns."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from core.sources import SOURCES, SourceName
from sql import statements

Order = Literal["events", "revenue"]

_READ: Final = statements("report_breakdowns")["read"]
_ROWS: Final = statements("sources")
# Of the buckets, and of rows. Counts are added as floats: these are exact up to 9 * 10**15, and cheap.
_FIGURES: Final[dict[Order, tuple[str, str]]] = {
    "events": ("(CASE WHEN place = 0 THEN totals ELSE events[place:place] END)::float8[]", "events::float8"),
    "revenue": ("CASE WHEN paid THEN revenue END", "revenue"),
}


@cache
def read_statement(source: SourceName, breakdown: str, order: Order = "events") -> str:
    """The statement that reads one breakdown of a source (a key of `breakdowns` of its declaration), in this order."""
    declared = SOURCES[source]
    pair = len(declared.breakdowns[breakdown]) > 1
    figures, figure = _FIGURES[order]
    return _READ.format(
        rows=_ROWS[f"breakdown_rows_{source}_{breakdown.replace(',', '_')}"],
        purchase=declared.purchase.event_type,
        keys="value, second" if pair else "value",
        second="second" if pair else "''",
        pair="true" if pair else "false",
        unnested="unnest(values) AS value, unnest(seconds) AS second" if pair else "unnest(values) AS value",
        figures=figures,
        figure=figure,
    )
