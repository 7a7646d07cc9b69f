"""The demographics report: events by the audience dimensions that their source declares.

Countries that are not in the registry (`known_countries`) are counted together as other.

    from rollups   all dimensions that are not ranked                                any range
    from rows      ranked dimensions; every dimension by funnelStage or eventType    up to REPORTER_ROWS_RANGE_HOURS
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec import UNSET

from core.sources import SOURCES, SourceName
from reporter import pagination
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import BadQuery, ChoiceList, Integer, QueryParams, as_list, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports import audience
from reporter.reports.audience import DEFAULT_DIMENSIONS, DIMENSIONS, DIMENSIONS_OF, Counts, Dimension
from reporter.reports.demographics_answer import (
    Audience,
    DemographicsAnswer,
    DemographicsTotals,
    ResolvedDemographicsQuery,
)
from reporter.reports.event_kinds import EVENT_TYPE, FUNNEL_STAGE, matching_event_kinds, sources_of
from reporter.reports.report import Figures, Query, Report, resolved_fields
from reporter.reports.shares import ShareLists
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot, Statements
from sql import statements

DEFAULT_TOP: Final = 20
MAX_TOP: Final = 100
_FROM_ROWS: Final = "Only for ranges up to REPORTER_ROWS_RANGE_HOURS (default 24), because no rollup holds it."

_SQL: Final = statements("report_demographics")
_ROWS: Final = statements("sources")
_RANKED_NAMES: Final = " and ".join(f"`{name}`" for name in dict.fromkeys(name for _, name in sorted(audience.RANKED)))
_AUDIENCES: Final = "; ".join(f"{source} by {', '.join(names)}" for source, names in DIMENSIONS_OF.items())
_LEFT_OUT: Final = "".join(
    f"The default is all but `{name}`. " for name in DIMENSIONS if name not in DEFAULT_DIMENSIONS
)
_STAGE: Final = dataclasses.replace(FUNNEL_STAGE, description=f"{FUNNEL_STAGE.description} {_FROM_ROWS}")
_TYPE: Final = dataclasses.replace(EVENT_TYPE, description=f"{EVENT_TYPE.description} {_FROM_ROWS}")
GROUP_BY: Final = ChoiceList[Dimension](
    "groupBy",
    f"Dimensions to list: comma separated, in repeated parameters, or both. {_LEFT_OUT}"
    f"{_RANKED_NAMES} only for ranges up to REPORTER_ROWS_RANGE_HOURS (default 24).",
    allowed=DIMENSIONS,
    example="ageBand,gender",
)
TOP: Final = Integer(
    "top",
    f"Number of values of {_RANKED_NAMES} to list, {DEFAULT_TOP} by default. All other values are other.",
    bounds=(1, MAX_TOP),
)
_FIGURES: Final = Statements(
    _SQL["rollups"],
    {source: _ROWS[f"audience_rows_{source}"] for source in SOURCES},
    columns=("dimension", "value", "events"),
)


@dataclass(frozen=True, kw_only=True)
class DemographicsQuery(Query[ResolvedDemographicsQuery]):
    """A demographics query. ranked_omitted: why ranked dimensions are not listed, None if they are."""

    ranked_omitted: str | None

    @property
    def from_rows(self) -> bool:
        return bool(self.ranked) and self.ranked_omitted is None

    @property
    def ranked(self) -> list[tuple[SourceName, str]]:
        """Source and name of each ranked dimension of the query."""
        return audience.ranked_dimensions(self.resolved.group_by, self.sources)

    def read_plan(self, period: Period) -> ReadPlan:
        return _read_plan(self.resolved, period)


def parse_query(params: QueryParams, settings: ReporterSettings) -> DemographicsQuery:
    """Parse a demographics query. Raises BadQuery."""
    event_kinds = matching_event_kinds(params)
    sources = sources_of(event_kinds)
    by = params.get(GROUP_BY) or DEFAULT_DIMENSIONS
    if not any(dimension in DIMENSIONS_OF[source] for dimension in by for source in sources):
        known_dimensions = [name for name in DIMENSIONS if any(name in DIMENSIONS_OF[source] for source in sources)]
        raise BadQuery("groupBy", f"{','.join(by)} is not a dimension of {' and '.join(sources)}", known_dimensions)
    top = params.get(TOP) or DEFAULT_TOP
    period = parse_period(params, groups=audience.estimated_values(by, sources, top))
    previous = parse_previous_period(params, period)
    resolved = ResolvedDemographicsQuery(
        **resolved_fields(period, previous),
        source=one_or_several(params.get(SOURCE)),
        funnel_stage=one_or_several(params.get(FUNNEL_STAGE)),
        event_type=one_or_several(params.get(EVENT_TYPE)),
        group_by=by,
        top=top,
    )
    hours = settings.reporter_rows_range_hours
    too_long = period.end - period.start > timedelta(hours=hours)
    type_filter = FUNNEL_STAGE if resolved.funnel_stage else EVENT_TYPE if resolved.event_type else None
    if type_filter and too_long:
        raise BadQuery(
            type_filter.name, f"is only for ranges up to {hours} hours: no rollup holds dimensions by stage or type"
        )
    names = " and ".join(dict.fromkeys(name for _, name in audience.ranked_dimensions(by, sources)))
    return DemographicsQuery(
        resolved=resolved,
        period=period,
        plan=_read_plan(resolved, period),
        previous=previous,
        sources=sources,
        ranked_omitted=f"{names} is listed only for ranges up to {hours} hours: use a shorter range"
        if too_long
        else None,
        page=pagination.parse_page(params),
    )


def _read_plan(resolved: ResolvedDemographicsQuery, period: Period) -> ReadPlan:
    """Return a plan of rows only if no rollup holds the query's figures."""
    return period.rows_only_plan() if resolved.funnel_stage or resolved.event_type else period.read_plan()


@dataclass
class AudienceCounts:
    """The counts of a period. note: why ranked dimensions are not listed, None if they are."""

    counts: Counts
    events: dict[SourceName, Counter[int]]
    note: str | None


async def count(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, plan: ReadPlan, current: AudienceCounts | None
) -> AudienceCounts:
    """Count each source's events by dimension and value, and by the dimension that gives its total."""
    counts: Counts = defaultdict(dict)
    params = query.resolved
    dimensions = audience.rollup_dimensions(params.group_by, query.sources)
    filters = (as_list(params.funnel_stage), as_list(params.event_type))
    figures = await snapshot.figures(period, plan, _FIGURES, (dimensions,), filters)
    for bucket, sign, source, (dimension, value, events) in figures:
        values = counts[bucket, source, dimension]
        values[value] = values.get(value, 0) + sign * events
    if current is None:
        note = await _count_ranked(snapshot, query, period, counts)
    else:
        note = current.note or await _count_ranked(snapshot, query, period, counts, current.counts)
    return AudienceCounts(counts, {source: audience.events_by_bucket(counts, source) for source in query.sources}, note)


def rows(query: DemographicsQuery, figures: Figures[AudienceCounts], stored_until: datetime | None) -> list[Audience]:
    """Return one row for each bucket and source, with the previous period's figures."""
    current, previous = figures
    lists = ShareLists(
        query.resolved.group_by,
        current.counts,
        None if previous is None else previous.counts,
        query.previous,
        with_ranked=_note(figures) is None,
    )
    return [
        Audience(
            start=start,
            end=end,
            complete=complete,
            source=source,
            events=current.events[source][bucket],
            previous_events=UNSET
            if previous is None
            else query.previous_figure(previous.events[source], bucket, bucket, 0),
            **lists.of_bucket(bucket, source),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source in query.sources
    ]


def answer(
    query: DemographicsQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[AudienceCounts],
    rows: list[Audience],
    next_page: str | None,
) -> DemographicsAnswer:
    """Return the answer, with totals over all pages."""
    current, previous = figures
    totals = DemographicsTotals(sum(events.total() for events in current.events.values()))
    if previous is not None:
        totals.previous_events = sum(events.total() for events in previous.events.values())
    note = _note(figures)
    return DemographicsAnswer(query.resolved, freshness, rows, totals, [note] if note else [], next_page)


def _note(figures: Figures[AudienceCounts]) -> str | None:
    return (figures.previous or figures.current).note


async def _count_ranked(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, counts: Counts, ranked_values: Counts | None = None
) -> str | None:
    """Add to `counts` each bucket's most frequent values, or those of `ranked_values`, and the rest as other.

    Returns why they are not listed, None if they are.
    """
    params = query.resolved
    if not query.ranked:
        return None
    if query.ranked_omitted is not None:
        return query.ranked_omitted
    for source, name in query.ranked:
        if period.start < snapshot.floor:
            return f"{name} is listed only for ranges from {snapshot.floor.isoformat()} on: older rows are not kept"
        values = None if ranked_values is None else sorted(audience.counted_values(ranked_values, source, name))
        top = params.top if values is None else len(values)
        records = await snapshot.rows_or_timeout(
            period,
            audience.ranked_statement(source, name),
            top,
            as_list(params.funnel_stage),
            as_list(params.event_type),
            values,
        )
        if records is None:
            return f"counting {name} took too long: use a shorter range"
        rest = audience.events_by_bucket(counts, source)
        for row in records:
            counts[row["bucket"], source, name][row["value"]] = row["events"]
            rest[row["bucket"]] -= row["events"]
        for number, events in rest.items():
            counts[number, source, name][None] = events
    return None


DEMOGRAPHICS: Final = Report(
    name="demographics",
    title="Audience",
    description=f"Events of a range by audience: {_AUDIENCES}. Ranked dimensions are counted from single events, "
    "for short ranges only.",
    answer_type=DemographicsAnswer,
    parameters=(FROM, TO, RANGE, SOURCE, _STAGE, _TYPE, INTERVAL, TIME_ZONE, GROUP_BY, TOP, COMPARE, LIMIT, AFTER),
    parse_query=parse_query,
    count=count,
    rows=rows,
    row_key=lambda row: [row.start, row.source],
    answer=answer,
)
