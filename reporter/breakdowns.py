"""The statements that read breakdowns: see `read` in sql/report_breakdowns.sql for their parameters and columns."""

from __future__ import annotations

from functools import cache
from typing import Final

from core.sources import SOURCES, SourceName
from sql import statements

_READ: Final = statements("report_breakdowns")["read"]
_ROWS: Final = statements("sources")


@cache
def read_statement(source: SourceName, breakdown: str) -> str:
    """The statement that reads one breakdown of a source (a key of `breakdowns` of its declaration)."""
    declared = SOURCES[source]
    return _READ.format(
        rows=_ROWS[f"breakdown_rows_{source}_{breakdown.replace(',', '_')}"],
        purchase=declared.purchase.event_type,
        pair="true" if len(declared.breakdowns[breakdown]) > 1 else "false",
    )
