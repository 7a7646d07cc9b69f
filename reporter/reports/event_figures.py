"""The SQL that counts events by source, funnel stage and event type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from core.sources import SOURCES
from reporter.snapshot import Statements
from sql import statements

_SQL: Final = statements("report_events")
FIGURES: Final = Statements(
    _SQL["rollups"],
    {name: _SQL["rows"].format(table=source.table) for name, source in SOURCES.items()},
    columns=("funnel_stage", "event_type", "events"),
)


def by_type(event_types: Sequence[str]) -> tuple[Any, ...]:
    """Return the arguments of FIGURES that count events of these types, one by one."""
    return None, list(event_types), False, True
