"""What a query costs to read."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import inspect

from reporter.query_params import QueryParams
from reporter.reports import REPORTS
from reporter.reports.report import AnyReport
from reporter.settings import ReporterSettings


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.path)
def test_only_the_first_query_inspects_structs(report: AnyReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that no one asked before inspects no struct once another one was read: that takes ten times as long as
    the rest of reading it."""

    def ask(limit: int) -> None:
        text = f"from=2026-10-01T00:00:00Z&to=2026-10-31T00:00:00Z&interval=day&limit={limit}"
        report.parse_query(QueryParams(text.encode(), report.parameters), settings)

    def reject(*_: Any) -> None:
        raise AssertionError("a struct was inspected")

    settings = ReporterSettings()
    ask(1)
    monkeypatch.setattr(inspect, "type_info", reject)
    monkeypatch.setattr(inspect, "multi_type_info", reject)
    ask(2)
