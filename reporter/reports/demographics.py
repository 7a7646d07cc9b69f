"""Who the events come from, by the dimensions that their source declares.

Countries without a place in the registry (`known_countries`) are counted together as other.

    rollups hold    all but ranked dimensions                          any range
    rows give       ranked ones; all of it by funnelStage or eventType  ranges up to REPORTER_ROWS_RANGE_HOURS
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec import UNSET

from core.sources import SOURCES, SourceName
from reporter import pages
from reporter.cover import Cover
from reporter.figures import Snapshot, Statements
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, SOURCE, TIME_ZONE, TO
from reporter.period import Period, period_of, previous_of
from reporter.query import BadQuery, QueryParams, Several, Whole
from reporter.reports import audience
from reporter.reports.audience import BY_DEFAULT, DIMENSIONS, OF, Counts, Dimension
from reporter.reports.demographics_answer import (
    Audience,
    DemographicsAnswer,
    DemographicsTotals,
    ResolvedDemographicsQuery,
)
from reporter.reports.kinds import EVENT_TYPE, FUNNEL_STAGE, chosen, sources_of
from reporter.reports.report import Figures, Query, Report, understood
from reporter.reports.shares import Lists
from reporter.settings import ReporterSettings
from sql import statements

USUAL_TOP: Final = 20
MOST_TOP: Final = 100
_FROM_ROWS: Final = "For ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise): no rollup holds it."

_SQL: Final = statements("report_demographics")
_ROWS: Final = statements("sources")
_RANKED_NAMES: Final = " and ".join(f"`{name}`" for name in dict.fromkeys(name for _, name in sorted(audience.RANKED)))
_AUDIENCES: Final = "; ".join(f"{source} by {', '.join(names)}" for source, names in OF.items())
_LEFT_OUT: Final = "".join(f"All but `{name}` if not given. " for name in DIMENSIONS if name not in BY_DEFAULT)
_STAGE: Final = dataclasses.replace(FUNNEL_STAGE, description=f"{FUNNEL_STAGE.description} {_FROM_ROWS}")
_TYPE: Final = dataclasses.replace(EVENT_TYPE, description=f"{EVENT_TYPE.description} {_FROM_ROWS}")
GROUP_BY: Final = Several[Dimension](
    "groupBy",
    f"What is listed of the audience; repeated, comma separated, or both. {_LEFT_OUT}"
    f"{_RANKED_NAMES} for ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise) alone.",
    allowed=DIMENSIONS,
    example="ageBand,gender",
)
TOP: Final = Whole(
    "top",
    f"How many values of {_RANKED_NAMES} are listed; {USUAL_TOP} if not given. The rest is other.",
    bounds=(1, MOST_TOP),
)
_FIGURES: Final = Statements(
    _SQL["rollups"],
    {source: _ROWS[f"audience_rows_{source}"] for source in SOURCES},
    columns=("dimension", "value", "events"),
)


@dataclass(frozen=True, kw_only=True)
class DemographicsQuery(Query[ResolvedDemographicsQuery]):
    """A query for demographics. no_ranked: why ranked dimensions cannot be listed, or None."""

    no_ranked: str | None

    @property
    def from_rows(self) -> bool:
        return bool(self.ranked) and self.no_ranked is None

    @property
    def ranked(self) -> list[tuple[SourceName, str]]:
        """The ranked dimensions that are asked for, with their sources."""
        return audience.ranked(self.understood.group_by, self.sources)

    def cover(self, period: Period) -> Cover:
        return _cover(self.understood, period)


def ask(params: QueryParams, settings: ReporterSettings) -> DemographicsQuery:
    """Raises BadQuery."""
    kinds = chosen(params)
    sources = sources_of(kinds)
    by = params.get(GROUP_BY) or BY_DEFAULT
    if not any(dimension in OF[source] for dimension in by for source in sources):
        known = [name for name in DIMENSIONS if any(name in OF[source] for source in sources)]
        raise BadQuery("groupBy", f"{','.join(by)} is not known of {' and '.join(sources)}", known)
    top = params.get(TOP) or USUAL_TOP
    period = period_of(params, groups=audience.values(by, sources, top))
    previous = previous_of(params, period)
    repeated = ResolvedDemographicsQuery(
        **understood(period, previous),
        source=params.get(SOURCE),
        funnel_stage=params.get(FUNNEL_STAGE),
        event_type=params.get(EVENT_TYPE),
        group_by=by,
        top=top,
    )
    hours = settings.reporter_rows_range_hours
    too_long = period.end - period.start > timedelta(hours=hours)
    filtered = FUNNEL_STAGE if repeated.funnel_stage else EVENT_TYPE if repeated.event_type else None
    if filtered and too_long:
        raise BadQuery(filtered.name, f"is for ranges up to {hours} hours: no rollup holds the audience by type")
    names = " and ".join(dict.fromkeys(name for _, name in audience.ranked(by, sources)))
    return DemographicsQuery(
        understood=repeated,
        period=period,
        covered=_cover(repeated, period),
        previous=previous,
        sources=sources,
        no_ranked=f"{names} is listed for ranges up to {hours} hours: ask for a shorter one" if too_long else None,
        page=pages.page(params),
    )


def _cover(understood: ResolvedDemographicsQuery, period: Period) -> Cover:
    """By rows alone where no rollup holds what is asked for."""
    return period.rows() if understood.funnel_stage or understood.event_type else period.cover()


@dataclass
class Counted:
    """What was counted of a period. note: why ranked dimensions are not listed, or None."""

    counts: Counts
    events: dict[SourceName, Counter[int]]
    note: str | None


async def count(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, covered: Cover, now: Counted | None
) -> Counted:
    """Each source's events by dimension and value, and by a dimension that all of its events have."""
    counts: Counts = defaultdict(dict)
    params = query.understood
    wanted = audience.counted(params.group_by, query.sources)
    filters = (params.funnel_stage, params.event_type)
    figures = await snapshot.figures(period, covered, _FIGURES, (wanted,), filters)
    for bucket, sign, source, (dimension, value, events) in figures:
        found = counts[bucket, source, dimension]
        found[value] = found.get(value, 0) + sign * events
    if now is None:
        note = await _count_ranked(snapshot, query, period, counts)
    else:
        note = now.note or await _count_ranked(snapshot, query, period, counts, now.counts)
    return Counted(counts, {source: audience.events(counts, source) for source in query.sources}, note)


def rows(query: DemographicsQuery, figures: Figures[Counted], stored_until: datetime | None) -> list[Audience]:
    """One row for each bucket and source, with the previous period beside it."""
    now, before = figures
    lists = Lists(
        query.understood.group_by,
        now.counts,
        None if before is None else before.counts,
        query.previous,
        with_ranked=_note(figures) is None,
    )
    return [
        Audience(
            start=start,
            end=end,
            complete=complete,
            source=source,
            events=now.events[source][bucket],
            previous_events=UNSET
            if before is None
            else before.events[source][bucket]
            if query.has_previous(bucket)
            else None,
            **lists.of(bucket, source),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source in query.sources
    ]


def answer(
    query: DemographicsQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[Counted],
    rows: list[Audience],
    following: str | None,
) -> DemographicsAnswer:
    """The answer, with the sums of all pages."""
    now, before = figures
    totals = DemographicsTotals(sum(events.total() for events in now.events.values()))
    if before is not None:
        totals.previous_events = sum(events.total() for events in before.events.values())
    note = _note(figures)
    return DemographicsAnswer(query.understood, freshness, rows, totals, [note] if note else [], following)


def _note(figures: Figures[Counted]) -> str | None:
    return (figures.before or figures.now).note


async def _count_ranked(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, counts: Counts, listed: Counts | None = None
) -> str | None:
    """Add the most frequent values of each bucket, or those that `listed` has, and the rest; or return why not."""
    params = query.understood
    if not query.ranked:
        return None
    if query.no_ranked is not None:
        return query.no_ranked
    for source, name in query.ranked:
        if period.start < snapshot.floor:
            return f"{name} is listed for ranges from {snapshot.floor.isoformat()} on: older rows are not kept"
        known = None if listed is None else sorted(audience.values_of(listed, source, name))
        top = params.top if known is None else len(known)
        found = await snapshot.in_time(
            period, audience.ranked_rows(source, name), top, params.funnel_stage, params.event_type, known
        )
        if found is None:
            return f"{name} took too long to count: ask for a shorter range"
        rest = audience.events(counts, source)
        for row in found:
            counts[row["bucket"], source, name][row["value"]] = row["events"]
            rest[row["bucket"]] -= row["events"]
        for number, events in rest.items():
            counts[number, source, name][None] = events
    return None


DEMOGRAPHICS: Final = Report(
    name="demographics",
    title="Audience",
    description=f"Events of a range by who caused them: {_AUDIENCES}. Ranked dimensions are counted from the events "
    "themselves, for short ranges only.",
    shape=DemographicsAnswer,
    parameters=(FROM, TO, SOURCE, _STAGE, _TYPE, INTERVAL, TIME_ZONE, GROUP_BY, TOP, COMPARE, LIMIT, AFTER),
    ask=ask,
    count=count,
    rows=rows,
    key=lambda row: [row.start, row.source],
    answer=answer,
)
