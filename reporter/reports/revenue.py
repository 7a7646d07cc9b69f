"""The revenue report: amounts of each source's purchases, by bucket, source and campaign.

Events have no currency, so amounts are summed as received. Campaigns are read from breakdowns, at any range. There
may be nearly as many campaigns as events, and a breakdown lists the largest ones. If it cuts off a part of the campaign
that a query names, the campaign is counted again from rows, by their index.
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
from core.sources.declaration import CAMPAIGN
from core.sources.fields import MAX_TEXT_BYTES
from reporter import pagination
from reporter.breakdowns import Bucket, Figure, Request, is_exact
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import AnyParameter, BadQuery, ChoiceList, Integer, QueryParams, Text, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports import event_figures
from reporter.reports.report import Figures, Query, Report, left_out_if_exact, resolved_fields
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
MAX_TOP: Final = 1_000
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
    f"Only purchases of this campaign. For {_CAMPAIGN_SOURCE_NAMES} only.",
    example="camp-1",
)
GROUP_BY: Final = ChoiceList[Dimension](
    "groupBy",
    "One row for each value of these: comma separated, in repeated parameters, or both. "
    f"`campaignId` lists the `top` campaigns of the range, those with most revenue, and other; for "
    f"{_CAMPAIGN_SOURCE_NAMES} only. Such an answer has no pages.",
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
    "top",
    f"Number of campaigns to list, {DEFAULT_TOP} by default. All other campaigns are other.",
    bounds=(1, MAX_TOP),
)


@dataclass(frozen=True, kw_only=True)
class RevenueQuery(Query[ResolvedRevenueQuery]):
    """A revenue query. rows_limit: the longest time whose rows it may read; None if there is no limit."""

    rows_limit: timedelta | None

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
    def from_breakdowns(self) -> bool:
        return self.by_campaign or self.resolved.campaign_id is not None


@dataclass
class RevenueSums:
    """Sums of a period, by bucket and group.

    revenue_errors, purchases_errors  by how much each of them may be off
    first_steps                       events of the first step, only if a metric needs them
    """

    revenue: defaultdict[tuple[int, Group], Decimal] = field(default_factory=lambda: defaultdict(lambda: _ZERO))
    purchases: Counter[tuple[int, Group]] = field(default_factory=Counter)
    revenue_errors: defaultdict[tuple[int, Group], Decimal] = field(default_factory=lambda: defaultdict(lambda: _ZERO))
    purchases_errors: Counter[tuple[int, Group]] = field(default_factory=Counter)
    first_steps: Counter[tuple[int, Group]] = field(default_factory=Counter)

    def add(self, bucket: int, group: Group, purchases: int, revenue: Decimal) -> None:
        self.revenue[bucket, group] += revenue
        self.purchases[bucket, group] += purchases

    def add_errors(self, bucket: int, group: Group, purchases: int, revenue: Decimal) -> None:
        self.revenue_errors[bucket, group] += revenue
        self.purchases_errors[bucket, group] += purchases

    @property
    def is_exact(self) -> bool:
        return not (any(self.revenue_errors.values()) or any(self.purchases_errors.values()))

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
                parameter.name,
                "is not allowed with groupBy=campaignId: campaigns are ordered by their revenue, which may change "
                f"between pages. Use top to list up to {MAX_TOP} campaigns in one answer",
            )
    period = parse_period(params, groups=(top + 1 if top else 1) * (len(sources) if "source" in by else 1))
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
        rows_limit=settings.rows_limit,
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
    if query.from_breakdowns:
        for name, buckets in (await _campaigns(snapshot, query, period, plan, current)).items():
            source = name if by_source else UNSET
            for number, figures_of in enumerate(buckets):
                for value, figure in figures_of.items():
                    if value is None and params.campaign_id is not None:
                        continue
                    campaign = UNSET if not query.by_campaign else None if value is None else value[0]
                    sums.add(number, (source, campaign), figure.events, figure.revenue)
                    sums.add_errors(number, (source, campaign), figure.events_error, figure.revenue_error)
    else:
        types = [SOURCES[source].purchase.event_type for source in query.sources]
        figures = await snapshot.figures(period, plan, _FIGURES, rollups_arguments=(types,))
        for bucket, sign, of, (purchases, revenue) in figures:
            sums.add(bucket, (of if by_source else UNSET, UNSET), sign * purchases, sign * revenue)
    if "conversion" in query.metrics:
        of_steps = event_figures.by_type([_FIRST_STEPS[source] for source in query.sources])
        steps = await snapshot.figures(period, plan, event_figures.FIGURES, of_steps)
        for bucket, sign, of, (_, event_type, events) in steps:
            if event_type == _FIRST_STEPS[of]:  # other sources may have this type, too
                sums.first_steps[bucket, (of if by_source else UNSET, UNSET)] += sign * events
    return sums


async def _campaigns(
    snapshot: Snapshot, query: RevenueQuery, period: Period, plan: ReadPlan, current: RevenueSums | None
) -> dict[SourceName, list[Bucket]]:
    """Return the figures of each source's campaigns: the one of the query, those of `current`, or the largest ones."""
    params = query.resolved

    async def read(source: SourceName, names: Sequence[str] | None) -> list[Bucket]:
        request = Request(
            source,
            CAMPAIGN,
            (SOURCES[source].purchase.event_type,),
            params.top or 1,
            "revenue",
            None if names is None else [(name, None) for name in names],
        )
        return await snapshot.breakdown(period, plan, request, query.rows_limit)

    if params.campaign_id is not None:
        found = {source: await read(source, (params.campaign_id,)) for source in query.sources}
        if all(is_exact(bucket) for buckets in found.values() for bucket in buckets):
            return found
        return await _campaign_from_rows(snapshot, query, period) or found
    if current is not None:
        names = [name for name in dict.fromkeys(name for _, name in _groups(query, current)) if isinstance(name, str)]
        return {source: await read(source, names) for source in query.sources}
    found = {source: await read(source, None) for source in query.sources}
    if len(found) > 1:  # a campaign that is large in one source is listed in all
        union = sorted({value[0] for of in found.values() for bucket in of for value in bucket if value is not None})
        found = {source: await read(source, union) for source in query.sources}
    return found


async def _campaign_from_rows(
    snapshot: Snapshot, query: RevenueQuery, period: Period
) -> dict[SourceName, list[Bucket]] | None:
    """Return the exact figures of the query's campaign; None if its rows are not kept, or take too long to read."""
    if period.start < snapshot.floor:
        return None
    params = query.resolved
    records = await snapshot.or_timeout(
        lambda: snapshot.rows(period, _CAMPAIGNS["campaign"], params.campaign_id, query.sources)
    )
    if records is None:
        return None
    found: dict[SourceName, list[Bucket]] = {
        source: [{} for _ in range(len(period.bounds) - 1)] for source in query.sources
    }
    for row in records:
        figure = Figure(row["purchases"], row["revenue"], 0, _ZERO)
        found[row["source"]][row["bucket"]] = {(params.campaign_id or "", None): figure}
    return found


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
    if not _is_exact(figures):
        for number, row in enumerate(listed):
            key = number // len(groups), groups[number % len(groups)]
            row.revenue_error = current.revenue_errors[key]
            row.purchases_error = current.purchases_errors[key]
            if previous is not None:
                row.previous_revenue_error = query.previous_figure(previous.revenue_errors, key, key[0], _ZERO)
                row.previous_purchases_error = query.previous_figure(previous.purchases_errors, key, key[0], 0)
    return listed


def _is_exact(figures: Figures[RevenueSums]) -> bool:
    return figures.current.is_exact and (figures.previous is None or figures.previous.is_exact)


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
    if query.resolved.campaign_id is not None and not _is_exact(figures):  # a sum with other is exact
        totals.revenue_error = sum(current.revenue_errors.values(), _ZERO)
        totals.purchases_error = current.purchases_errors.total()
        if previous is not None:
            totals.previous_revenue_error = sum(previous.revenue_errors.values(), _ZERO)
            totals.previous_purchases_error = previous.purchases_errors.total()
    exact = left_out_if_exact(exact=_is_exact(figures))
    return RevenueAnswer(query.resolved, freshness, None, rows, totals, next_page, exact)


def _groups(query: RevenueQuery, sums: RevenueSums) -> list[Group]:
    """Return the groups of each bucket: campaigns with most revenue first, other last."""
    params = query.resolved
    sources: Sequence[SourceName | UnsetType] = query.sources if "source" in params.group_by else (UNSET,)
    if not query.by_campaign:
        return [(source, UNSET) for source in sources]
    if params.campaign_id is not None:
        return [(source, params.campaign_id) for source in sources]
    of: defaultdict[str, Decimal] = defaultdict(Decimal)
    having = {group for (_, group), purchases in sums.purchases.items() if purchases}
    having |= {group for (_, group), error in sums.purchases_errors.items() if error}
    for (_, group), revenue in sums.revenue.items():
        if group in having and isinstance(group[1], str):
            of[group[1]] += revenue
    ranked = sorted(of, key=lambda name: (-of[name], name))[: params.top]
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
