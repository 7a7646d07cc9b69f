"""The demographics report: events, and revenue if the query has it, by the audience dimensions of each source.

Countries that are not in the registry (`known_countries`) are counted together as other.

    from rollups      events of all types, by the dimensions that are not ranked
    from breakdowns   ranked dimensions and pairs; every dimension by funnelStage or eventType, or with revenue
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, get_args

from msgspec import UNSET

from core.sources import SOURCES, SourceName
from reporter import pagination
from reporter.breakdowns import Bucket, Order, Request, Value
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import BadQuery, ChoiceList, Integer, NotAvailable, QueryParams, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports import audience
from reporter.reports.audience import DEFAULT_DIMENSIONS, DIMENSIONS, DIMENSIONS_OF, PAIR, Dimension
from reporter.reports.demographics_answer import (
    ZERO,
    Audience,
    DemographicsAnswer,
    DemographicsTotals,
    Metric,
    ResolvedDemographicsQuery,
)
from reporter.reports.event_kinds import EVENT_TYPE, FUNNEL_STAGE, matching_event_kinds, sources_of
from reporter.reports.report import Figures, Query, Report, left_out_if_exact, resolved_fields
from reporter.reports.shares import AudienceFigures, ShareLists
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot, Statements
from sql import statements

DEFAULT_TOP: Final = 20
MAX_TOP: Final = 1_000
ALL_VALUES: Final = 10_000
"""As many as a breakdown lists."""

_SQL: Final = statements("report_demographics")
_ROWS: Final = statements("sources")
_RANKED_NAMES: Final = " and ".join(f"`{name}`" for name in dict.fromkeys(name for _, name in sorted(audience.RANKED)))
_AUDIENCES: Final = "; ".join(f"{source} by {', '.join(names)}" for source, names in DIMENSIONS_OF.items())
_LEFT_OUT: Final = " and ".join(
    f"`{name}`" for name in DIMENSIONS if name not in DEFAULT_DIMENSIONS and PAIR not in name
)
_PAIRS: Final = " and ".join(f"`{name}`" for name in DIMENSIONS if PAIR in name)
GROUP_BY: Final = ChoiceList[Dimension](
    "groupBy",
    "Dimensions to list: comma separated, in repeated parameters, or both. "
    f"The default is all but {_LEFT_OUT} and pairs. {_PAIRS} list each pair of two values.",
    allowed=DIMENSIONS,
    example="ageBand,gender",
)
METRICS: Final = ChoiceList[Metric](
    "metrics",
    "Figures of each value. `revenue` adds the revenue of its purchases to its events. With `revenue` alone, the "
    f"values of {_RANKED_NAMES} with most revenue are listed, otherwise those with most events.",
    allowed=get_args(Metric),
    example="events,revenue",
)
TOP: Final = Integer(
    "top",
    f"Number of values of {_RANKED_NAMES} to list, {DEFAULT_TOP} by default: those with the largest figures of the "
    "whole range. All other values are other.",
    bounds=(1, MAX_TOP),
)
_FIGURES: Final = Statements(
    _SQL["rollups"],
    {source: _ROWS[f"audience_rows_{source}"] for source in SOURCES},
    columns=("dimension", "value", "events"),
)


@dataclass(frozen=True, kw_only=True)
class DemographicsQuery(Query[ResolvedDemographicsQuery]):
    """A demographics query.

    event_types  of each source, the event types that count; None: all
    rows_limit   the longest time whose rows it may read; None if there is no limit
    """

    event_types: dict[SourceName, tuple[str, ...]] | None
    rows_limit: timedelta | None

    @property
    def with_revenue(self) -> bool:
        return self.resolved.metrics is not UNSET and "revenue" in self.resolved.metrics

    @property
    def order(self) -> Order:
        """The figure that ranks values."""
        return "revenue" if self.resolved.metrics == ("revenue",) else "events"

    @property
    def has_rollups(self) -> bool:
        """Whether rollups hold the figures of the dimensions that are not ranked."""
        return self.event_types is None and not self.with_revenue

    @property
    def from_breakdowns(self) -> bool:
        return any(self.breakdowns(source) for source in self.sources)

    def breakdowns(self, source: SourceName) -> list[str]:
        """Return the breakdowns of a source to read; the one that gives its total is first."""
        return audience.breakdowns_of(self.resolved.group_by, source, all_dimensions=not self.has_rollups)


def parse_query(params: QueryParams, settings: ReporterSettings) -> DemographicsQuery:
    """Parse a demographics query. Raises BadQuery."""
    event_kinds = matching_event_kinds(params)
    sources = sources_of(event_kinds)
    by = params.get(GROUP_BY) or DEFAULT_DIMENSIONS
    if not any(dimension in DIMENSIONS_OF[source] for dimension in by for source in sources):
        known_dimensions = [name for name in DIMENSIONS if any(name in DIMENSIONS_OF[source] for source in sources)]
        raise BadQuery("groupBy", f"{','.join(by)} is not a dimension of {' and '.join(sources)}", known_dimensions)
    top, metrics = params.get(TOP) or DEFAULT_TOP, params.get(METRICS)
    period = parse_period(params, groups=audience.estimated_values(by, sources, top))
    previous = parse_previous_period(params, period)
    resolved = ResolvedDemographicsQuery(
        **resolved_fields(period, previous),
        source=one_or_several(params.get(SOURCE)),
        funnel_stage=one_or_several(params.get(FUNNEL_STAGE)),
        event_type=one_or_several(params.get(EVENT_TYPE)),
        group_by=by,
        metrics=UNSET if metrics is None else metrics,
        top=top,
    )
    types = {
        source: tuple(str(event_kind.event_type) for event_kind in event_kinds if event_kind.source == source)
        for source in sources
    }
    return DemographicsQuery(
        resolved=resolved,
        period=period,
        plan=period.read_plan(),
        previous=previous,
        sources=sources,
        event_types=types if resolved.funnel_stage or resolved.event_type else None,
        page=pagination.parse_page(params),
        rows_limit=settings.rows_limit,
    )


@dataclass
class AudienceCounts(AudienceFigures):
    """The figures of a period.

    events_of, revenue_of  figures of all events of a source, by bucket
    omitted                why breakdowns of a source are not listed
    timed_out              whether one of them took too long
    """

    events_of: dict[SourceName, Counter[int]] = field(default_factory=dict)
    revenue_of: dict[SourceName, Counter[int]] = field(default_factory=dict)
    omitted: dict[tuple[SourceName, str], str] = field(default_factory=dict)
    timed_out: bool = False


async def count(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, plan: ReadPlan, current: AudienceCounts | None
) -> AudienceCounts:
    """Count each source's events by dimension and value, and by the dimension that gives its total."""
    found = AudienceCounts(omitted={} if current is None else dict(current.omitted))
    if query.has_rollups:
        dimensions = audience.rollup_dimensions(query.resolved.group_by, query.sources)
        figures = await snapshot.figures(period, plan, _FIGURES, (dimensions,), (None, None))
        for bucket, sign, source, (dimension, value, events) in figures:
            values = found.events[bucket, source, dimension]
            values[value] = values.get(value, 0) + sign * events
    if query.from_breakdowns:
        countries: list[str] | None = None
        for source in query.sources:
            names = query.breakdowns(source)
            if countries is None and any(audience.is_registered(source, name) for name in names):
                countries = await snapshot.known_countries()
            for name in names:
                request = _request(query, source, name, countries, current)

                async def read(request: Request = request) -> list[Bucket]:
                    return await snapshot.breakdown(period, plan, request, query.rows_limit)

                await _count_breakdown(snapshot, query, request, read, found)
    found.events_of = {source: audience.sum_by_bucket(found.events, source) for source in query.sources}
    if query.with_revenue:
        found.revenue_of = {source: audience.sum_by_bucket(found.revenue, source) for source in query.sources}
    return found


def _request(
    query: DemographicsQuery,
    source: SourceName,
    name: str,
    countries: Sequence[str] | None,
    current: AudienceCounts | None,
) -> Request:
    """Return what to read of a breakdown. Values of ranked dimensions are those of `current`, if there is one."""
    top, values = ALL_VALUES, None
    is_registered = audience.is_registered(source, name)
    if (source, name) in audience.RANKED:
        top = query.resolved.top
        if current is not None:
            values = [(value, None) for value in sorted(audience.counted_values(current.events, source, name))]
    elif is_registered:
        values = [(country, None) for country in countries or ()]
    types = None if query.event_types is None else query.event_types[source]
    return Request(source, name, types, top, query.order, values, with_absent=not is_registered)


async def _count_breakdown(
    snapshot: Snapshot,
    query: DemographicsQuery,
    request: Request,
    read: Callable[[], Awaitable[list[Bucket]]],
    found: AudienceCounts,
) -> None:
    """Add the figures of a breakdown to those that are found, or why it is not listed.

    Raises NotAvailable, and QueryCanceledError if a source's total takes too long.
    """
    key = request.source, request.breakdown
    if key in found.omitted:
        return
    buckets: list[Bucket] | None
    if not query.has_rollups and request.breakdown == audience.total_dimension(request.source):
        buckets = await read()
    elif found.timed_out:
        buckets = None  # another one would take as long
    else:
        try:
            buckets = await snapshot.or_timeout(read)
        except NotAvailable as error:
            found.omitted[key] = f"{request.words} is left out: {error.detail}"
            return
    if buckets is None:
        found.timed_out = True
        found.omitted[key] = f"{request.words} is left out: counting it took too long. Use a shorter range"
        return
    for number, bucket in enumerate(buckets):
        for value, figure in bucket.items():
            found.add((number, *key), _shown(value), figure, with_revenue=query.with_revenue)


def _shown(value: Value | None) -> audience.Value:
    if value is None:
        return None
    one, other = value
    return one if other is None else (one, other)


def rows(query: DemographicsQuery, figures: Figures[AudienceCounts], stored_until: datetime | None) -> list[Audience]:
    """Return one row for each bucket and source, with the previous period's figures."""
    current, previous = figures
    lists = ShareLists(query, current, previous, set((previous or current).omitted))
    made = [
        Audience(
            start=start,
            end=end,
            complete=complete,
            source=source,
            events=current.events_of[source][bucket],
            previous_events=UNSET
            if previous is None
            else query.previous_figure(previous.events_of[source], bucket, bucket, 0),
            **lists.of_bucket(bucket, source),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source in query.sources
    ]
    if query.with_revenue:
        for number, row in enumerate(made):
            bucket = number // len(query.sources)
            row.revenue = ZERO + current.revenue_of[row.source][bucket]
            if previous is not None and query.previous is not None:
                has_bucket = query.previous.has_bucket(bucket)
                row.previous_revenue = ZERO + previous.revenue_of[row.source][bucket] if has_bucket else None
    return made


def answer(
    query: DemographicsQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[AudienceCounts],
    rows: list[Audience],
    next_page: str | None,
) -> DemographicsAnswer:
    """Return the answer, with totals over all pages."""
    current, previous = figures
    totals = DemographicsTotals(sum(events.total() for events in current.events_of.values()))
    if previous is not None:
        totals.previous_events = sum(events.total() for events in previous.events_of.values())
    if query.with_revenue:
        totals.revenue = sum((ZERO + revenue.total() for revenue in current.revenue_of.values()), ZERO)
        if previous is not None:
            totals.previous_revenue = sum((ZERO + revenue.total() for revenue in previous.revenue_of.values()), ZERO)
    notes = list(dict.fromkeys((previous or current).omitted.values()))
    exact = current.is_exact and (previous is None or previous.is_exact)
    return DemographicsAnswer(query.resolved, freshness, rows, totals, notes, next_page, left_out_if_exact(exact=exact))


DEMOGRAPHICS: Final = Report(
    name="demographics",
    title="Audience",
    description=f"Events of a range by audience: {_AUDIENCES}. With `metrics`, their revenue, too.",
    answer_type=DemographicsAnswer,
    parameters=(
        *(FROM, TO, RANGE, SOURCE, FUNNEL_STAGE, EVENT_TYPE, INTERVAL, TIME_ZONE, GROUP_BY, METRICS, TOP, COMPARE),
        *(LIMIT, AFTER),
    ),
    parse_query=parse_query,
    count=count,
    rows=rows,
    row_key=lambda row: [row.start, row.source],
    answer=answer,
)
