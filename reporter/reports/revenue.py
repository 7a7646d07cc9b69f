"""What was paid: the amounts of checkout.complete (facebook) and purchase (tiktok), by bucket and source.

The events name no currency: amounts are added up as they came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal, cast, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.events.fields import MAX_TEXT_BYTES
from core.events.subjects import SOURCES, Source
from core.settings import ReporterSettings
from reporter.buckets import Interval
from reporter.freshness import Freshness
from reporter.query import FROM, INTERVAL, SOURCE, TIME_ZONE, TO, Asked, BadQuery, Parameter, Period
from reporter.read import Snapshot
from reporter.reports import BucketEnd, BucketStart, Report, Understood
from sql import statements

Dimension = Literal["source"]
Revenue = Annotated[Decimal, Meta(description="Decimal string with two digits after the point")]
Purchases = Annotated[int, Meta(description="Events checkout.complete and purchase, with or without an amount")]

_SQL: Final = statements("report_revenue")
_ROWS: Final[dict[Source, str]] = {source: _SQL[f"{source}_rows"] for source in SOURCES}
_CAMPAIGN: Final[dict[Source, str]] = {"facebook": _SQL["campaign"]}
_CENT: Final = Decimal("0.01")


class UnderstoodRevenue(Understood, frozen=True):
    """The query as it was understood."""

    interval: Interval | None
    source: Source | None
    campaign_id: str | None
    group_by: tuple[Dimension, ...]


@dataclass(frozen=True)
class RevenueQuery:
    """A query for revenue. A campaign can only be read from the rows."""

    understood: UnderstoodRevenue
    period: Period
    sources: tuple[Source, ...]


class RevenueRow(msgspec.Struct, kw_only=True):
    """Revenue of one bucket, and of one source where it is grouped by."""

    start: BucketStart
    end: BucketEnd
    source: Source | UnsetType = UNSET
    revenue: Revenue
    purchases: Purchases


class RevenueTotals(msgspec.Struct):
    """The sum of all rows."""

    revenue: Revenue
    purchases: Purchases


class RevenueAnswer(msgspec.Struct):
    """Revenue, ordered by bucket and source; buckets without purchases are there, with 0.00."""

    query: UnderstoodRevenue
    freshness: dict[Source, Freshness]
    currency: Annotated[
        None, Meta(description="Always null: the events name no currency, amounts are added as they came")
    ]
    rows: list[RevenueRow]
    totals: RevenueTotals

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Sequence[msgspec.Struct]]:
        return RevenueRow, self.rows


def ask(asked: Asked, settings: ReporterSettings) -> RevenueQuery:
    """Raises BadQuery."""
    source, campaign_id = cast(Source | None, asked.choice("source")), asked.text("campaignId")
    if campaign_id is not None:
        source = _campaign_source(source, campaign_id)
    by = cast(tuple[Dimension, ...], asked.several("groupBy"))
    sources = (source,) if source else SOURCES
    period = asked.period(groups=len(sources) if by else 1)
    if campaign_id is not None and period.end - period.start > timedelta(hours=settings.reporter_rows_range_hours):
        raise BadQuery("campaignId", f"is for ranges up to {settings.reporter_rows_range_hours} hours")
    understood = UnderstoodRevenue(
        start=period.start,
        end=period.end,
        time_zone=period.zone.key,
        interval=period.interval,
        source=source,
        campaign_id=campaign_id,
        group_by=by,
    )
    return RevenueQuery(understood, period, sources)


def _campaign_source(source: Source | None, campaign_id: str) -> Source:
    """The only source that has campaigns. Raises BadQuery where the query cannot be one for a campaign."""
    if source not in (None, "facebook"):
        raise BadQuery("campaignId", f"{source} has no campaigns: leave source out or ask for facebook", ("facebook",))
    if "\0" in campaign_id or len(campaign_id.encode()) > MAX_TEXT_BYTES:
        raise BadQuery("campaignId", f"has to be at most {MAX_TEXT_BYTES} bytes of text without NUL")
    return "facebook"


async def read(snapshot: Snapshot, query: RevenueQuery) -> RevenueAnswer:
    """Raises BadQuery where the period needs rows that are no longer kept."""
    asked, period = query.understood, query.period
    if asked.campaign_id is None:
        figures = snapshot.figures(period, _SQL["rollups"], _ROWS, (period.inner_bounds,))
    else:
        figures = snapshot.rows(period, _CAMPAIGN, (period.inner_bounds, asked.campaign_id))
    revenue: defaultdict[tuple[int, Source | UnsetType], Decimal] = defaultdict(lambda: Decimal("0.00"))
    purchases: Counter[tuple[int, Source | UnsetType]] = Counter()
    async for sign, source, row in figures:
        group = row["bucket"], source if asked.group_by else UNSET
        revenue[group] += sign * row["revenue"]
        purchases[group] += sign * row["purchases"]
    groups: tuple[Source | UnsetType, ...] = query.sources if asked.group_by else (UNSET,)
    rows = [
        RevenueRow(
            start=start, end=end, source=group, revenue=revenue[number, group], purchases=purchases[number, group]
        )
        for number, (start, end) in enumerate(period.buckets())
        for group in groups
    ]
    totals = RevenueTotals(sum(revenue.values(), Decimal("0.00")), purchases.total())
    return RevenueAnswer(asked, snapshot.freshness, None, rows, totals)


REVENUE: Final = Report(
    name="revenue",
    parameters=(
        FROM,
        TO,
        SOURCE,
        Parameter(
            "campaignId",
            "Purchases of this campaign alone, for ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise). "
            "Facebook only: tiktok has no campaigns.",
        ),
        INTERVAL,
        TIME_ZONE,
        Parameter("groupBy", "A row for each value of these.", allowed=get_args(Dimension), several=True),
    ),
    ask=ask,
    read=read,
)
