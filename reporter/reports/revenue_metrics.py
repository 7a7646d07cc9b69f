"""Figures of revenue that follow from others: average order value and conversion."""

from __future__ import annotations

from collections.abc import Collection
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from msgspec import UNSET

from reporter.reports.ratio import ratio
from reporter.reports.revenue_answer import RevenueRow, RevenueTotals

_CENT: Final = Decimal("0.01")


def add_metrics(
    row: RevenueRow | RevenueTotals, metrics: Collection[str], first_steps: int, previous_first_steps: int | None
) -> None:
    """Set the metrics of a row or of the totals.

    first_steps, previous_first_steps: events of the first step of the funnel; 0 if they were not counted.
    """
    revenue, purchases = row.previous_revenue, row.previous_purchases
    if "averageOrderValue" in metrics:
        row.average_order_value = _average(row.revenue, row.purchases)
        if revenue is not UNSET and purchases is not UNSET:
            row.previous_average_order_value = _average(revenue, purchases)
    if "conversion" in metrics:
        row.conversion = ratio(row.purchases, first_steps)
        if purchases is not UNSET:
            row.previous_conversion = None if purchases is None else ratio(purchases, previous_first_steps or 0)


def _average(revenue: Decimal | None, purchases: int | None) -> Decimal | None:
    if revenue is None or not purchases:
        return None
    return (revenue / purchases).quantize(_CENT, ROUND_HALF_UP)
