"""The reports. Each has a module for its query and counts, and a module for the types of its answer."""

from __future__ import annotations

from typing import Final

from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.events import EVENTS
from reporter.reports.funnel import FUNNEL
from reporter.reports.report import AnyReport
from reporter.reports.revenue import REVENUE

__all__ = ["FILES", "REPORTS", "AnyReport"]

REPORTS: Final[tuple[AnyReport, ...]] = (EVENTS, REVENUE, FUNNEL, DEMOGRAPHICS)
FILES: Final = tuple(report.as_file() for report in REPORTS)
"""The same reports as CSV files."""
