"""Types of the revenue answer."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from reporter.freshness import Freshness
from reporter.reports.report import BucketEnd, BucketStart, Complete, ResolvedQuery

Dimension = Literal["source", "campaignId"]
Metric = Literal["revenue", "purchases", "averageOrderValue", "conversion"]
Revenue = Annotated[Decimal, Meta(description="Decimal string with two digits after the point")]
Purchases = Annotated[int, Meta(description="Purchase events (orders), with or without an amount")]
AverageOrderValue = Annotated[
    Decimal | UnsetType | None,
    Meta(description="Revenue per purchase, rounded to two digits; null if there are no purchases"),
]
Conversion = Annotated[
    float | UnsetType | None,
    Meta(
        description="Purchases per event of the first step of the source's funnel; null if there are no such events. "
        "It compares events, not people, and may exceed 1"
    ),
]
RevenueError = Annotated[
    Decimal | UnsetType | None, Meta(description="Largest possible error of the revenue, up or down; only if not exact")
]
PurchasesError = Annotated[
    int | UnsetType | None, Meta(description="Largest possible error of the purchases, up or down; only if not exact")
]
PREVIOUS_ERROR: Final = "Largest possible error of the previous figure; only if not exact"


class ResolvedRevenueQuery(ResolvedQuery, frozen=True, kw_only=True):
    """The resolved query."""

    source: SourceName | tuple[SourceName, ...] | None
    campaign_id: str | None
    group_by: tuple[Dimension, ...]
    top: Annotated[int | None, Meta(description="Number of campaigns that have rows; null if not grouped by campaign")]
    metrics: tuple[Metric, ...] | UnsetType = UNSET


class RevenueRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Revenue of one bucket, and of one source or campaign if grouped by it."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName | UnsetType = UNSET
    campaign_id: Annotated[
        str | UnsetType | None, Meta(description="null means other: all campaigns that are not listed")
    ] = UNSET
    revenue: Revenue
    purchases: Purchases
    previous_revenue: Annotated[
        Decimal | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET
    previous_purchases: Annotated[
        int | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET
    revenue_error: RevenueError = UNSET
    purchases_error: PurchasesError = UNSET
    previous_revenue_error: Annotated[Decimal | UnsetType | None, Meta(description=PREVIOUS_ERROR)] = UNSET
    previous_purchases_error: Annotated[int | UnsetType | None, Meta(description=PREVIOUS_ERROR)] = UNSET
    average_order_value: AverageOrderValue = UNSET
    previous_average_order_value: AverageOrderValue = UNSET
    conversion: Conversion = UNSET
    previous_conversion: Conversion = UNSET


class RevenueTotals(msgspec.Struct, kw_only=True, rename="camel"):
    """The figures of the whole range, over all pages."""

    revenue: Revenue
    purchases: Purchases
    previous_revenue: Annotated[
        Decimal | UnsetType, Meta(description="The figure of the previous period, until countedUntil")
    ] = UNSET
    previous_purchases: Annotated[
        int | UnsetType, Meta(description="The figure of the previous period, until countedUntil")
    ] = UNSET
    revenue_error: RevenueError = UNSET
    purchases_error: PurchasesError = UNSET
    previous_revenue_error: Annotated[Decimal | UnsetType | None, Meta(description=PREVIOUS_ERROR)] = UNSET
    previous_purchases_error: Annotated[int | UnsetType | None, Meta(description=PREVIOUS_ERROR)] = UNSET
    average_order_value: AverageOrderValue = UNSET
    previous_average_order_value: AverageOrderValue = UNSET
    conversion: Conversion = UNSET
    previous_conversion: Conversion = UNSET


class RevenueAnswer(msgspec.Struct):
    """The revenue answer: rows ordered by bucket and group; buckets without purchases have 0.00."""

    query: ResolvedRevenueQuery
    freshness: dict[SourceName, Freshness]
    currency: Annotated[
        None, Meta(description="Always null: events have no currency, and amounts are summed as received")
    ]
    rows: list[RevenueRow]
    totals: RevenueTotals
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last page")]
    exact: Annotated[
        bool | UnsetType,
        Meta(
            description="false if campaigns with few purchases were cut off when their quarter-hour was counted. Each "
            "figure then has its largest possible error. Left out if all figures are exact"
        ),
    ] = UNSET

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        return RevenueRow, self.rows
