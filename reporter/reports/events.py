"""How many events there were: by bucket, and by source, funnel stage and event type where asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, get_args

from msgspec import UNSET

from core.sources import SOURCES, SourceName
from reporter import pages
from reporter.cover import Cover
from reporter.figures import Snapshot, Statements
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, SOURCE, TIME_ZONE, TO
from reporter.period import Period, period_of, previous_of
from reporter.query import QueryParams, Several
from reporter.reports.events_answer import Dimension, EventsAnswer, EventsRow, EventsTotals, ResolvedEventsQuery
from reporter.reports.kinds import EVENT_TYPE, FUNNEL_STAGE, Kind, chosen, sources_of
from reporter.reports.report import Figures, Query, Report, understood
from reporter.settings import ReporterSettings
from sql import statements

Counts = Counter[tuple[int, Kind]]

GROUP_BY: Final = Several[Dimension](
    "groupBy",
    "A row for each value of these; repeated, comma separated, or both.",
    allowed=get_args(Dimension),
    example="source,funnelStage",
)
_SQL: Final = statements("report_events")
_FIGURES: Final = Statements(
    _SQL["rollups"],
    {name: _SQL["rows"].format(table=source.table) for name, source in SOURCES.items()},
    columns=("funnel_stage", "event_type", "events"),
)
_group: Final = cache(Kind.grouped)  # there are some dozens of kinds, and eight ways to group them


@dataclass(frozen=True, kw_only=True)
class EventsQuery(Query[ResolvedEventsQuery]):
    """A query for events: rows are buckets of the period times groups."""

    groups: tuple[Kind, ...]


def ask(params: QueryParams, _settings: ReporterSettings) -> EventsQuery:
    """Raises BadQuery."""
    kinds = chosen(params)
    by = params.get(GROUP_BY) or ()
    groups = tuple(dict.fromkeys(kind.grouped(by) for kind in kinds))
    period = period_of(params, groups=len(groups))
    previous = previous_of(params, period)
    return EventsQuery(
        understood=ResolvedEventsQuery(
            **understood(period, previous),
            source=params.get(SOURCE),
            funnel_stage=params.get(FUNNEL_STAGE),
            event_type=params.get(EVENT_TYPE),
            group_by=by,
        ),
        period=period,
        covered=period.cover(),
        previous=previous,
        sources=sources_of(kinds),
        groups=groups,
        page=pages.page(params),
    )


async def count(snapshot: Snapshot, query: EventsQuery, period: Period, covered: Cover, _now: Counts | None) -> Counts:
    """Events by bucket and group."""
    params = query.understood
    by = params.group_by
    filters = (params.funnel_stage, params.event_type, "funnelStage" in by, "eventType" in by)
    counted: Counts = Counter()
    for bucket, sign, source, (stage, event_type, events) in await snapshot.figures(period, covered, _FIGURES, filters):
        counted[bucket, _group(Kind(source, stage, event_type), by)] += sign * events
    return counted


def rows(query: EventsQuery, figures: Figures[Counts], stored_until: datetime | None) -> list[EventsRow]:
    """One row for each bucket and group, with the previous period beside it."""
    now, before = figures
    return [
        EventsRow(
            start=start,
            end=end,
            complete=complete,
            source=group.source,
            funnel_stage=group.funnel_stage,
            event_type=group.event_type,
            events=now[bucket, group],
            previous_events=UNSET if before is None else before[bucket, group] if query.has_previous(bucket) else None,
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for group in query.groups
    ]


def answer(
    query: EventsQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[Counts],
    rows: list[EventsRow],
    following: str | None,
) -> EventsAnswer:
    """The answer, with the sums of all pages."""
    now, before = figures
    totals = EventsTotals(now.total(), UNSET if before is None else before.total())
    return EventsAnswer(query.understood, freshness, rows, totals, following)


def _key(row: EventsRow) -> list[Any]:
    return [row.start, *(None if part is UNSET else part for part in (row.source, row.funnel_stage, row.event_type))]


EVENTS: Final = Report(
    name="events",
    title="Counts of events",
    description="Events of a range by bucket, and by source, funnel stage and type where `groupBy` asks for it. "
    "Buckets and groups without events are there, with 0.",
    shape=EventsAnswer,
    parameters=(FROM, TO, SOURCE, FUNNEL_STAGE, EVENT_TYPE, INTERVAL, TIME_ZONE, GROUP_BY, COMPARE, LIMIT, AFTER),
    ask=ask,
    count=count,
    rows=rows,
    key=_key,
    answer=answer,
)
