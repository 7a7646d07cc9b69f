"""What was paid: the amounts of checkout.complete (facebook) and purchase (tiktok), by bucket, source and campaign.

The events name no currency: amounts are added up as they came. Campaigns stand on facebook's events alone and are
nearly unique to them, so they are read from the rows: one campaign by an index, all of them within a stated range.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, cast, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.events.fields import MAX_TEXT_BYTES
from core.events.subjects import SOURCES, Source
from core.settings import ReporterSettings
from reporter import pages
from reporter.cover import Cover
from reporter.freshness import Freshness
from reporter.query import (
    AFTER,
    COMPARE,
    FROM,
    INTERVAL,
    LIMIT,
    SOURCE,
    TIME_ZONE,
    TO,
    Asked,
    BadQuery,
    Parameter,
    Period,
)
from reporter.read import Snapshot, Statements
from reporter.reports import BucketEnd, BucketStart, Complete, Report, Understood, compared, so_far
from sql import statements

Dimension = Literal["source", "campaignId"]
Group = tuple[Source | UnsetType, str | UnsetType | None]
Revenue = Annotated[Decimal, Meta(description="Decimal string with two digits after the point")]
Purchases = Annotated[int, Meta(description="Events checkout.complete and purchase, with or without an amount")]

TOP: Final = 20
MOST_TOP: Final = 100
_SQL: Final = statements("report_revenue")
_FIGURES: Final = Statements(_SQL["rollups"], {source: _SQL[f"{source}_rows"] for source in SOURCES})
_NOTHING: Final = Decimal("0.00")


class UnderstoodRevenue(Understood, frozen=True, kw_only=True):
    """The query as it was understood."""

    source: Source | None
    campaign_id: str | None
    group_by: tuple[Dimension, ...]
    top: Annotated[int | None, Meta(description="Of how many campaigns each has a row; null: not grouped by them")]


@dataclass(frozen=True)
class RevenueQuery:
    """A query for revenue. Campaigns can only be read from the rows."""

    understood: UnderstoodRevenue
    period: Period
    covered: Cover
    previous: Period | None
    sources: tuple[Source, ...]
    page: pages.Page

    @property
    def by_campaign(self) -> bool:
        return "campaignId" in self.understood.group_by

    @property
    def in_one_statement(self) -> bool:
        from_rows = self.by_campaign or self.understood.campaign_id is not None or self.covered.rows
        return not (from_rows or self.previous)


class RevenueRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Revenue of one bucket, and of one source or campaign where it is grouped by."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: Source | UnsetType = UNSET
    campaign_id: Annotated[str | UnsetType | None, Meta(description="null: other, all that are not listed")] = UNSET
    revenue: Revenue
    purchases: Purchases
    previous_revenue: Annotated[Decimal | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET
    previous_purchases: Annotated[int | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET


class RevenueTotals(msgspec.Struct, kw_only=True, rename="camel"):
    """The sum of all rows, of all pages."""

    revenue: Revenue
    purchases: Purchases
    previous_revenue: Annotated[Decimal | UnsetType, Meta(description="Of the previous period, until countedUntil")] = (
        UNSET
    )
    previous_purchases: Annotated[int | UnsetType, Meta(description="Of the previous period, until countedUntil")] = (
        UNSET
    )


class RevenueAnswer(msgspec.Struct):
    """Revenue, ordered by bucket and group; buckets without purchases are there, with 0.00."""

    query: UnderstoodRevenue
    freshness: dict[Source, Freshness]
    currency: Annotated[
        None, Meta(description="Always null: the events name no currency, amounts are added as they came")
    ]
    rows: list[RevenueRow]
    totals: RevenueTotals
    next: Annotated[str | None, Meta(description="`after` of the next page; null: this is the last one")]

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        return RevenueRow, self.rows


@dataclass
class Paid:
    """Sums of a period by bucket and group."""

    revenue: defaultdict[tuple[int, Group], Decimal] = field(default_factory=lambda: defaultdict(lambda: _NOTHING))
    purchases: Counter[tuple[int, Group]] = field(default_factory=Counter)

    def add(self, bucket: int, group: Group, purchases: int, revenue: Decimal) -> None:
        self.revenue[bucket, group] += revenue
        self.purchases[bucket, group] += purchases

    def total(self) -> tuple[Decimal, int]:
        return sum(self.revenue.values(), _NOTHING), self.purchases.total()


def ask(asked: Asked, settings: ReporterSettings) -> RevenueQuery:
    """Raises BadQuery."""
    source, campaign_id = asked.choice("source"), asked.text("campaignId")
    by = cast(tuple[Dimension, ...], asked.several("groupBy"))
    if campaign_id is not None or "campaignId" in by:
        source = _campaign_source(source, campaign_id or "", "groupBy" if campaign_id is None else "campaignId")
    sources = (source,) if source else SOURCES
    top = asked.integer("top", TOP) if "campaignId" in by else None
    if top is None and asked.text("top") is not None:
        raise BadQuery("top", "is for groupBy=campaignId: how many campaigns are listed")
    for name in (LIMIT.name, AFTER.name):
        if top is not None and asked.text(name) is not None:
            raise BadQuery(name, "is not for groupBy=campaignId: which campaigns are listed changes between pages")
    period = asked.period(groups=top + 1 if top else len(sources) if by else 1)
    hours = settings.reporter_rows_range_hours
    if top is not None and campaign_id is None and period.end - period.start > timedelta(hours=hours):
        raise BadQuery(
            "groupBy", f"campaignId is for ranges up to {hours} hours: no rollup holds all campaigns", ("source",)
        )
    previous = asked.compared(period)
    understood = UnderstoodRevenue(
        start=period.start,
        end=period.end,
        time_zone=period.zone.key,
        interval=period.interval,
        compare=compared(previous),
        source=source,
        campaign_id=campaign_id,
        group_by=by,
        top=top,
    )
    return RevenueQuery(understood, period, period.cover(), previous, sources, pages.page(asked))


def _campaign_source(source: Source | None, campaign_id: str, parameter: str) -> Source:
    """The only source that has campaigns. Raises BadQuery where the query cannot be one for campaigns."""
    if source not in (None, "facebook"):
        raise BadQuery(parameter, f"{source} has no campaigns: leave source out or ask for facebook", ("facebook",))
    if "\0" in campaign_id or len(campaign_id.encode()) > MAX_TEXT_BYTES:
        raise BadQuery(parameter, f"has to be at most {MAX_TEXT_BYTES} bytes of text without NUL")
    return "facebook"


async def read(snapshot: Snapshot, query: RevenueQuery) -> RevenueAnswer:
    """Raises BadQuery where the period needs rows that are no longer kept."""
    query = so_far(query, snapshot)
    paid = await _sum(snapshot, query, query.period, query.covered)
    groups = _groups(query, paid)
    revenue, purchases = paid.total()
    totals = RevenueTotals(revenue=revenue, purchases=purchases)
    rows = [
        RevenueRow(
            start=start,
            end=end,
            complete=complete,
            source=source,
            campaign_id=campaign,
            revenue=paid.revenue.get((number, (source, campaign)), _NOTHING),
            purchases=paid.purchases[number, (source, campaign)],
        )
        for number, (start, end, complete) in enumerate(query.period.buckets(snapshot.stored_until))
        for source, campaign in groups
    ]
    if query.previous is not None:
        listed = [campaign for _, campaign in groups if isinstance(campaign, str)]
        before = await _sum(snapshot, query, query.previous, query.previous.cover(), listed)
        totals.previous_revenue, totals.previous_purchases = before.total()
        for place, row in enumerate(rows):
            number, group = place // len(groups), groups[place % len(groups)]
            known = query.previous.has(number)
            row.previous_revenue = before.revenue.get((number, group), _NOTHING) if known else None
            row.previous_purchases = before.purchases[number, group] if known else None
    rows, following = pages.cut(rows, query.page, _key)
    return RevenueAnswer(query.understood, snapshot.freshness, None, rows, totals, following)


async def _sum(
    snapshot: Snapshot, query: RevenueQuery, period: Period, covered: Cover, listed: Sequence[str] | None = None
) -> Paid:
    """`listed`: the campaigns to tell apart; without it those with most revenue."""
    asked, paid = query.understood, Paid()
    source: Source | UnsetType = "facebook" if "source" in asked.group_by else UNSET
    if asked.campaign_id is not None:
        campaign = asked.campaign_id if query.by_campaign else UNSET
        for row in await snapshot.rows(period, _SQL["campaign"], asked.campaign_id):
            paid.add(row["number"], (source, campaign), row["purchases"], row["revenue"])
    elif query.by_campaign:
        for row in await snapshot.rows(period, _SQL["campaigns"], asked.top, listed):
            paid.add(row["number"], (source, row["campaign"]), row["purchases"], row["revenue"])
    else:
        for bucket, sign, of, (purchases, revenue) in await snapshot.figures(period, covered, _FIGURES):
            paid.add(bucket, (of if "source" in asked.group_by else UNSET, UNSET), sign * purchases, sign * revenue)
    return paid


def _groups(query: RevenueQuery, paid: Paid) -> list[Group]:
    """The groups that each bucket has a row of: campaigns with most revenue first, the rest of them last."""
    asked = query.understood
    if not query.by_campaign:
        return [(source, UNSET) for source in query.sources] if asked.group_by else [(UNSET, UNSET)]
    source: Source | UnsetType = "facebook" if "source" in asked.group_by else UNSET
    if asked.campaign_id is not None:
        return [(source, asked.campaign_id)]
    of: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    for (_, (_, campaign)), revenue in paid.revenue.items():
        of[cast(str | None, campaign)] += revenue
    ranked = sorted((name for name in of if name is not None), key=lambda name: (-of[name], name))
    return [*((source, name) for name in ranked), (source, None)]


def _key(row: RevenueRow) -> list[Any]:
    return [row.start, None if row.source is UNSET else row.source]


REVENUE: Final = Report(
    name="revenue",
    parameters=(
        FROM,
        TO,
        SOURCE,
        Parameter(
            "campaignId",
            "Purchases of this campaign alone, found by an index in the days that are kept. Facebook only: tiktok has "
            "no campaigns.",
            example="camp-1",
        ),
        INTERVAL,
        TIME_ZONE,
        Parameter(
            "groupBy",
            "A row for each value of these; repeated, comma separated, or both. "
            "`campaignId`: the `top` campaigns of the range and other; facebook only, "
            "for ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise).",
            allowed=get_args(Dimension),
            several=True,
            example="source",
        ),
        Parameter(
            "top", f"How many campaigns are listed, {TOP} if not given; the rest is other.", bounds=(1, MOST_TOP)
        ),
        COMPARE,
        LIMIT,
        AFTER,
    ),
    ask=ask,
    read=read,
)
