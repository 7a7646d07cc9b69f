"""The reports: each has its parameters, its query and what it counts in one file, its answer's types in another."""

from __future__ import annotations

from typing import Final

from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.events import EVENTS
from reporter.reports.report import AnyReport
from reporter.reports.revenue import REVENUE

__all__ = ["FILES", "REPORTS", "AnyReport"]

REPORTS: Final[tuple[AnyReport, ...]] = (EVENTS, REVENUE, DEMOGRAPHICS)
FILES: Final = tuple(report.as_file() for report in REPORTS)
"""The same as CSV files."""
