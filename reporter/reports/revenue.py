"""The revenue report: amounts of each source's purchases, by bucket, source and campaign.

Events have no currency, so amounts are summed as received. There may be nearly as many campaigns as events, so no
rollup holds campaigns. They are read from rows: one campaign by an index, all campaigns for ranges up to
REPORTER_ROWS_RANGE_HOURS.
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
from reporter import pagination
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import AnyParameter, BadQuery, ChoiceList, Integer, QueryParams, Text, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports import event_figures
from reporter.reports.report import Figures, Query, Report, resolved_fields
from reporter.reports.revenue_answer import (
    Dimension,
    Metric,
    ResolvedRevenueQuery,
    RevenueAnswer,
    RevenueRow,
    RevenueTotals,
)
from reporter.reports.revenue_metrics import add_metrics
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot, Statements
from sql import statements

Group = tuple[SourceName | UnsetType, str | UnsetType | None]
DEFAULT_TOP: Final = 20
MAX_TOP: Final = 100
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
_CAMPAIGN_SOURCE_NAMES: Final = " and ".join(_CAMPAIGN_SOURCES)
_ZERO: Final = Decimal("0.00")
CAMPAIGN_ID: Final = Text(
    "campaignId",
    f"Only purchases of this campaign, within the days that are kept. For {_CAMPAIGN_SOURCE_NAMES} only.",
    example="camp-1",
)
GROUP_BY: Final = ChoiceList[Dimension](
    "groupBy",
    "One row for each value of these: comma separated, in repeated parameters, or both. "
    f"`campaignId` lists the `top` campaigns of the range and other, for {_CAMPAIGN_SOURCE_NAMES} only and "
    "for ranges up to REPORTER_ROWS_RANGE_HOURS (default 24).",
    allowed=get_args(Dimension),
    example="source",
)
_FIRST_STEPS: Final = {name: source.funnel[0] for name, source in SOURCES.items()}
METRICS: Final = ChoiceList[Metric](
    "metrics",
    "Figures of each row and of the totals. `revenue` and `purchases` are always in the answer. `averageOrderValue` is "
    "revenue per purchase. `conversion` is purchases per event of the first step of the source's funnel "
    f"({', '.join(f'`{step}` for {name}' for name, step in _FIRST_STEPS.items())}); it compares events, not people. "
    "`conversion` is not available by campaign, because events of the first steps have no campaign.",
    allowed=get_args(Metric),
    example="averageOrderValue,conversion",
)
TOP: Final = Integer(
    "top", f"Number of campaigns to list, {DEFAULT_TOP} by default. All other campaigns are other.", bounds=(1, MAX_TOP)
)


@dataclass(frozen=True, kw_only=True)
class RevenueQuery(Query[ResolvedRevenueQuery]):
    """A revenue query."""

    @property
    def by_campaign(self) -> bool:
        return "campaignId" in self.resolved.group_by

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return () if self.resolved.metrics is UNSET else self.resolved.metrics

    @property
    def in_one_statement(self) -> bool:
        return super().in_one_statement and "conversion" not in self.metrics

    @property
    def from_rows(self) -> bool:
        return self.by_campaign or self.resolved.campaign_id is not None


@dataclass
class RevenueSums:
    """Sums of a period, by bucket and group. first_steps: events of the first step, only if a metric needs them."""

    revenue: defaultdict[tuple[int, Group], Decimal] = field(default_factory=lambda: defaultdict(lambda: _ZERO))
    purchases: Counter[tuple[int, Group]] = field(default_factory=Counter)
    first_steps: Counter[tuple[int, Group]] = field(default_factory=Counter)

    def add(self, bucket: int, group: Group, purchases: int, revenue: Decimal) -> None:
        self.revenue[bucket, group] += revenue
        self.purchases[bucket, group] += purchases

    @property
    def total_revenue(self) -> Decimal:
        return sum(self.revenue.values(), _ZERO)


def parse_query(params: QueryParams, settings: ReporterSettings) -> RevenueQuery:
    """Parse a revenue query. Raises BadQuery."""
    requested, campaign_id = params.get(SOURCE), params.get(CAMPAIGN_ID)
    by = params.get(GROUP_BY) or ()
    metrics = params.get(METRICS)
    sources = requested or tuple(SOURCES)
    if campaign_id is not None or "campaignId" in by:
        sources = _with_campaigns(sources, campaign_id or "", GROUP_BY if campaign_id is None else CAMPAIGN_ID)
        if metrics and "conversion" in metrics:
            raise BadQuery("metrics", "conversion is not available by campaign: events of the first step have none")
    top = params.get(TOP) or DEFAULT_TOP if "campaignId" in by else None
    if top is None and params.has(TOP):
        raise BadQuery("top", "is only for groupBy=campaignId: the number of campaigns to list")
    for parameter in (LIMIT, AFTER):
        if top is not None and params.has(parameter):
            raise BadQuery(
                parameter.name, "is not allowed with groupBy=campaignId: the listed campaigns may change between pages"
            )
    period = parse_period(params, groups=(top + 1 if top else 1) * (len(sources) if "source" in by else 1))
    hours = settings.reporter_rows_range_hours
    if top is not None and campaign_id is None and period.end - period.start > timedelta(hours=hours):
        raise BadQuery(
            "groupBy", f"campaignId is only for ranges up to {hours} hours: no rollup holds campaigns", ("source",)
        )
    previous = parse_previous_period(params, period)
    return RevenueQuery(
        resolved=ResolvedRevenueQuery(
            **resolved_fields(period, previous),
            source=one_or_several(sources if len(sources) == 1 else requested),
            campaign_id=campaign_id,
            group_by=by,
            top=top,
            metrics=UNSET if metrics is None else metrics,
        ),
        period=period,
        plan=period.read_plan(),
        previous=previous,
        sources=sources,
        page=pagination.parse_page(params),
    )


def _with_campaigns(sources: Sequence[SourceName], campaign_id: str, parameter: AnyParameter) -> tuple[SourceName, ...]:
    """Return the sources that have campaigns. Raises BadQuery if there is none or the campaign ID is invalid."""
    if not (campaign_sources := tuple(source for source in sources if source in _CAMPAIGN_SOURCES)):
        names = " or ".join(_CAMPAIGN_SOURCES)
        raise BadQuery(
            parameter.name, f"{sources[0]} has no campaigns: leave source out, or set it to {names}", _CAMPAIGN_SOURCES
        )
    if "\0" in campaign_id or len(campaign_id.encode()) > MAX_TEXT_BYTES:
        raise BadQuery(parameter.name, f"has to be at most {MAX_TEXT_BYTES} bytes of text without NUL")
    return campaign_sources


async def count(
    snapshot: Snapshot, query: RevenueQuery, period: Period, plan: ReadPlan, current: RevenueSums | None
) -> RevenueSums:
    """Sum revenue by bucket and group. Lists the campaigns of `current` or, if None, those with most revenue."""
    params, sums = query.resolved, RevenueSums()
    by_source = "source" in params.group_by
    if params.campaign_id is not None:
        campaign = params.campaign_id if query.by_campaign else UNSET
        for row in await snapshot.rows(period, _CAMPAIGNS["campaign"], params.campaign_id, query.sources):
            group = (row["source"] if by_source else UNSET, campaign)
            sums.add(row["bucket"], group, row["purchases"], row["revenue"])
    elif query.by_campaign:
        campaigns = None if current is None else [name for _, name in _groups(query, current) if isinstance(name, str)]
        for row in await snapshot.rows(period, _CAMPAIGNS["campaigns"], params.top, campaigns, query.sources):
            group = (row["source"] if by_source else UNSET, row["campaign"])
            sums.add(row["bucket"], group, row["purchases"], row["revenue"])
    else:
        types = [SOURCES[source].purchase.event_type for source in query.sources]
        figures = await snapshot.figures(period, plan, _FIGURES, of_rollups=(types,))
        for bucket, sign, of, (purchases, revenue) in figures:
            sums.add(bucket, (of if by_source else UNSET, UNSET), sign * purchases, sign * revenue)
    if "conversion" in query.metrics:
        of_steps = event_figures.by_type([_FIRST_STEPS[source] for source in query.sources])
        steps = await snapshot.figures(period, plan, event_figures.FIGURES, of_steps)
        for bucket, sign, of, (_, event_type, events) in steps:
            if event_type == _FIRST_STEPS[of]:  # other sources may have this type, too
                sums.first_steps[bucket, (of if by_source else UNSET, UNSET)] += sign * events
    return sums


def rows(query: RevenueQuery, figures: Figures[RevenueSums], stored_until: datetime | None) -> list[RevenueRow]:
    """Return one row for each bucket and group, with the previous period's figures."""
    current, previous = figures
    groups = _groups(query, current)
    listed = [
        RevenueRow(
            start=start,
            end=end,
            complete=complete,
            source=source,
            campaign_id=campaign,
            revenue=current.revenue.get((bucket, (source, campaign)), _ZERO),
            purchases=current.purchases[bucket, (source, campaign)],
            previous_revenue=UNSET
            if previous is None
            else query.previous_figure(previous.revenue, (bucket, (source, campaign)), bucket, _ZERO),
            previous_purchases=UNSET
            if previous is None
            else query.previous_figure(previous.purchases, (bucket, (source, campaign)), bucket, 0),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source, campaign in groups
    ]
    if query.metrics:
        for number, row in enumerate(listed):
            bucket, group = divmod(number, len(groups))
            key = bucket, groups[group]
            first_steps = current.first_steps[key], None if previous is None else previous.first_steps[key]
            add_metrics(row, query.metrics, *first_steps)
    return listed


def answer(
    query: RevenueQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[RevenueSums],
    rows: list[RevenueRow],
    next_page: str | None,
) -> RevenueAnswer:
    """Return the answer, with totals over all pages."""
    current, previous = figures
    totals = RevenueTotals(revenue=current.total_revenue, purchases=current.purchases.total())
    if previous is not None:
        totals.previous_revenue, totals.previous_purchases = previous.total_revenue, previous.purchases.total()
    first_steps = current.first_steps.total(), None if previous is None else previous.first_steps.total()
    add_metrics(totals, query.metrics, *first_steps)
    return RevenueAnswer(query.resolved, freshness, None, rows, totals, next_page)


def _groups(query: RevenueQuery, sums: RevenueSums) -> list[Group]:
    """Return the groups of each bucket: campaigns with most revenue first, other last."""
    params = query.resolved
    sources: Sequence[SourceName | UnsetType] = query.sources if "source" in params.group_by else (UNSET,)
    if not query.by_campaign:
        return [(source, UNSET) for source in sources]
    if params.campaign_id is not None:
        return [(source, params.campaign_id) for source in sources]
    of: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (_, (_, campaign)), revenue in sums.revenue.items():
        if isinstance(campaign, str):
            of[campaign] += revenue
    ranked = sorted(of, key=lambda name: (-of[name], name))
    having = {group for _, group in sums.revenue}
    listed = [(source, name) for name in ranked for source in sources if (source, name) in having]
    return [*listed, *((source, None) for source in sources)]


def _key(row: RevenueRow) -> list[Any]:
    return [row.start, None if row.source is UNSET else row.source]


REVENUE: Final = Report(
    name="revenue",
    title="Revenue",
    description=f"The sum of the amounts of {_PURCHASES}; other events have no revenue. "
    "**There is no currency**: events have none, amounts are summed as received, and `currency` is always null.",
    answer_type=RevenueAnswer,
    parameters=(
        *(FROM, TO, RANGE, SOURCE, CAMPAIGN_ID, INTERVAL, TIME_ZONE, GROUP_BY, METRICS, TOP, COMPARE),
        *(LIMIT, AFTER),
    ),
    parse_query=parse_query,
    count=count,
    rows=rows,
    row_key=_key,
    answer=answer,
)
