"""What was paid: the amounts of each source's purchases, by bucket, source and campaign.

The events name no currency: amounts are added up as they came. Campaigns may be nearly unique to their events, so they
are read from the rows: one campaign by an index, all of them within a stated range.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, get_args

from msgspec import UNSET, UnsetType

from core.sources import SOURCES, SourceName
from core.sources.fields import MAX_TEXT_BYTES
from reporter import pages
from reporter.cover import Cover
from reporter.figures import Snapshot, Statements
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, SOURCE, TIME_ZONE, TO
from reporter.period import Period, period_of, previous_of
from reporter.query import AnyParameter, BadQuery, QueryParams, Several, Text, Whole
from reporter.reports.report import Figures, Query, Report, understood
from reporter.reports.revenue_answer import Dimension, ResolvedRevenueQuery, RevenueAnswer, RevenueRow, RevenueTotals
from reporter.settings import ReporterSettings
from sql import statements

Group = tuple[SourceName | UnsetType, str | UnsetType | None]
USUAL_TOP: Final = 20
MOST_TOP: Final = 100
_SQL: Final = statements("report_revenue")
_CAMPAIGNS: Final = statements("sources")
_FIGURES: Final = Statements(
    _SQL["rollups"],
    {
        name: _SQL["rows"].format(table=source.table, purchase=source.purchase.event_type)
        for name, source in SOURCES.items()
    },
    columns=("purchases", "revenue"),
)
_PURCHASES: Final = " and ".join(f"`{source.purchase.event_type}` ({name})" for name, source in SOURCES.items())
_CAMPAIGN_SOURCES: Final = tuple(name for name, source in SOURCES.items() if source.campaign)
_KNOWN: Final = " and ".join(_CAMPAIGN_SOURCES)
_NOTHING: Final = Decimal("0.00")
CAMPAIGN_ID: Final = Text(
    "campaignId",
    f"Purchases of this campaign alone, found by an index in the days that are kept. Of {_KNOWN} only.",
    example="camp-1",
)
GROUP_BY: Final = Several[Dimension](
    "groupBy",
    "A row for each value of these; repeated, comma separated, or both. "
    f"`campaignId`: the `top` campaigns of the range and other; {_KNOWN} only, "
    "for ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise).",
    allowed=get_args(Dimension),
    example="source",
)
TOP: Final = Whole(
    "top", f"How many campaigns are listed, {USUAL_TOP} if not given; the rest is other.", bounds=(1, MOST_TOP)
)


@dataclass(frozen=True, kw_only=True)
class RevenueQuery(Query[ResolvedRevenueQuery]):
    """A query for revenue. Campaigns can only be read from the rows."""

    @property
    def by_campaign(self) -> bool:
        return "campaignId" in self.understood.group_by

    @property
    def from_rows(self) -> bool:
        return self.by_campaign or self.understood.campaign_id is not None


@dataclass
class Paid:
    """Sums of a period by bucket and group."""

    revenue: defaultdict[tuple[int, Group], Decimal] = field(default_factory=lambda: defaultdict(lambda: _NOTHING))
    purchases: Counter[tuple[int, Group]] = field(default_factory=Counter)

    def add(self, bucket: int, group: Group, purchases: int, revenue: Decimal) -> None:
        self.revenue[bucket, group] += revenue
        self.purchases[bucket, group] += purchases

    @property
    def total_revenue(self) -> Decimal:
        return sum(self.revenue.values(), _NOTHING)


def ask(params: QueryParams, settings: ReporterSettings) -> RevenueQuery:
    """Raises BadQuery."""
    source, campaign_id = params.get(SOURCE), params.get(CAMPAIGN_ID)
    by = params.get(GROUP_BY) or ()
    sources = (source,) if source else tuple(SOURCES)
    if campaign_id is not None or "campaignId" in by:
        sources = _with_campaigns(sources, campaign_id or "", GROUP_BY if campaign_id is None else CAMPAIGN_ID)
    top = params.get(TOP) or USUAL_TOP if "campaignId" in by else None
    if top is None and params.has(TOP):
        raise BadQuery("top", "is for groupBy=campaignId: how many campaigns are listed")
    for parameter in (LIMIT, AFTER):
        if top is not None and params.has(parameter):
            raise BadQuery(
                parameter.name, "is not for groupBy=campaignId: which campaigns are listed changes between pages"
            )
    period = period_of(params, groups=(top + 1 if top else 1) * (len(sources) if "source" in by else 1))
    hours = settings.reporter_rows_range_hours
    if top is not None and campaign_id is None and period.end - period.start > timedelta(hours=hours):
        raise BadQuery(
            "groupBy", f"campaignId is for ranges up to {hours} hours: no rollup holds all campaigns", ("source",)
        )
    previous = previous_of(params, period)
    return RevenueQuery(
        understood=ResolvedRevenueQuery(
            **understood(period, previous),
            source=sources[0] if len(sources) == 1 else None,
            campaign_id=campaign_id,
            group_by=by,
            top=top,
        ),
        period=period,
        covered=period.cover(),
        previous=previous,
        sources=sources,
        page=pages.page(params),
    )


def _with_campaigns(sources: Sequence[SourceName], campaign_id: str, parameter: AnyParameter) -> tuple[SourceName, ...]:
    """Those of the sources that have campaigns. Raises BadQuery where the query cannot be one for campaigns."""
    if not (found := tuple(source for source in sources if source in _CAMPAIGN_SOURCES)):
        known = " or ".join(_CAMPAIGN_SOURCES)
        raise BadQuery(
            parameter.name, f"{sources[0]} has no campaigns: leave source out or ask for {known}", _CAMPAIGN_SOURCES
        )
    if "\0" in campaign_id or len(campaign_id.encode()) > MAX_TEXT_BYTES:
        raise BadQuery(parameter.name, f"has to be at most {MAX_TEXT_BYTES} bytes of text without NUL")
    return found


async def count(snapshot: Snapshot, query: RevenueQuery, period: Period, covered: Cover, now: Paid | None) -> Paid:
    """Revenue by bucket and group. Of campaigns those of `now` are listed, without it those with most revenue."""
    params, paid = query.understood, Paid()
    by_source = "source" in params.group_by
    if params.campaign_id is not None:
        campaign = params.campaign_id if query.by_campaign else UNSET
        for row in await snapshot.rows(period, _CAMPAIGNS["campaign"], params.campaign_id, query.sources):
            group = (row["source"] if by_source else UNSET, campaign)
            paid.add(row["bucket"], group, row["purchases"], row["revenue"])
    elif query.by_campaign:
        listed = None if now is None else [name for _, name in _groups(query, now) if isinstance(name, str)]
        for row in await snapshot.rows(period, _CAMPAIGNS["campaigns"], params.top, listed, query.sources):
            group = (row["source"] if by_source else UNSET, row["campaign"])
            paid.add(row["bucket"], group, row["purchases"], row["revenue"])
    else:
        types = [SOURCES[source].purchase.event_type for source in query.sources]
        figures = await snapshot.figures(period, covered, _FIGURES, of_rollups=(types,))
        for bucket, sign, of, (purchases, revenue) in figures:
            paid.add(bucket, (of if by_source else UNSET, UNSET), sign * purchases, sign * revenue)
    return paid


def rows(query: RevenueQuery, figures: Figures[Paid], stored_until: datetime | None) -> list[RevenueRow]:
    """One row for each bucket and group, with the previous period beside it."""
    now, before = figures
    groups = _groups(query, now)
    made = [
        RevenueRow(
            start=start,
            end=end,
            complete=complete,
            source=source,
            campaign_id=campaign,
            revenue=now.revenue.get((bucket, (source, campaign)), _NOTHING),
            purchases=now.purchases[bucket, (source, campaign)],
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source, campaign in groups
    ]
    if before is not None:
        for place, row in enumerate(made):
            bucket, group = place // len(groups), groups[place % len(groups)]
            known = query.has_previous(bucket)
            row.previous_revenue = before.revenue.get((bucket, group), _NOTHING) if known else None
            row.previous_purchases = before.purchases[bucket, group] if known else None
    return made


def answer(
    query: RevenueQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[Paid],
    rows: list[RevenueRow],
    following: str | None,
) -> RevenueAnswer:
    """The answer, with the sums of all pages."""
    now, before = figures
    totals = RevenueTotals(revenue=now.total_revenue, purchases=now.purchases.total())
    if before is not None:
        totals.previous_revenue, totals.previous_purchases = before.total_revenue, before.purchases.total()
    return RevenueAnswer(query.understood, freshness, None, rows, totals, following)


def _groups(query: RevenueQuery, paid: Paid) -> list[Group]:
    """The groups that each bucket has a row of: campaigns with most revenue first, the rest of them last."""
    params = query.understood
    sources: Sequence[SourceName | UnsetType] = query.sources if "source" in params.group_by else (UNSET,)
    if not query.by_campaign:
        return [(source, UNSET) for source in sources]
    if params.campaign_id is not None:
        return [(source, params.campaign_id) for source in sources]
    of: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (_, (_, campaign)), revenue in paid.revenue.items():
        if isinstance(campaign, str):
            of[campaign] += revenue
    ranked = sorted(of, key=lambda name: (-of[name], name))
    having = {group for _, group in paid.revenue}
    listed = [(source, name) for name in ranked for source in sources if (source, name) in having]
    return [*listed, *((source, None) for source in sources)]


def _key(row: RevenueRow) -> list[Any]:
    return [row.start, None if row.source is UNSET else row.source]


REVENUE: Final = Report(
    name="revenue",
    title="Revenue",
    description=f"Amounts of {_PURCHASES}, and of no other event. "
    "**No currency is known**: the events name none, amounts are added as they came, and `currency` is always null.",
    shape=RevenueAnswer,
    parameters=(FROM, TO, SOURCE, CAMPAIGN_ID, INTERVAL, TIME_ZONE, GROUP_BY, TOP, COMPARE, LIMIT, AFTER),
    ask=ask,
    count=count,
    rows=rows,
    key=_key,
    answer=answer,
)
