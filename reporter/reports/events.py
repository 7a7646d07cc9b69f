"""The events report: counts by bucket, and by source, funnel stage and event type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, get_args

from msgspec import UNSET

from core.sources import SourceName
from reporter import pagination
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import ChoiceList, QueryParams, as_list, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports.event_figures import FIGURES
from reporter.reports.event_kinds import EVENT_TYPE, FUNNEL_STAGE, EventKind, matching_event_kinds, sources_of
from reporter.reports.events_answer import Dimension, EventsAnswer, EventsRow, EventsTotals, Metric, ResolvedEventsQuery
from reporter.reports.ratio import ratio
from reporter.reports.report import Figures, Query, Report, resolved_fields
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot

Counts = Counter[tuple[int, EventKind]]

GROUP_BY: Final = ChoiceList[Dimension](
    "groupBy",
    "One row for each value of these: comma separated, in repeated parameters, or both.",
    allowed=get_args(Dimension),
    example="source,funnelStage",
)
METRICS: Final = ChoiceList[Metric](
    "metrics",
    "Figures of each row. `events` is always in the answer. `share` adds the share of each group in the events of its "
    "bucket and of the filters.",
    allowed=get_args(Metric),
    example="share",
)
_group: Final = cache(EventKind.grouped)  # some dozens of kinds, and eight ways to group them


@dataclass(frozen=True, kw_only=True)
class EventsQuery(Query[ResolvedEventsQuery]):
    """An events query. Its rows are the buckets of the period times `groups`."""

    groups: tuple[EventKind, ...]


def parse_query(params: QueryParams, _settings: ReporterSettings) -> EventsQuery:
    """Parse an events query. Raises BadQuery."""
    event_kinds = matching_event_kinds(params)
    by, metrics = params.get(GROUP_BY) or (), params.get(METRICS)
    groups = tuple(dict.fromkeys(_group(event_kind, by) for event_kind in event_kinds))
    period = parse_period(params, groups=len(groups))
    previous = parse_previous_period(params, period)
    return EventsQuery(
        resolved=ResolvedEventsQuery(
            **resolved_fields(period, previous),
            source=one_or_several(params.get(SOURCE)),
            funnel_stage=one_or_several(params.get(FUNNEL_STAGE)),
            event_type=one_or_several(params.get(EVENT_TYPE)),
            group_by=by,
            metrics=UNSET if metrics is None else metrics,
        ),
        period=period,
        plan=period.read_plan(),
        previous=previous,
        sources=sources_of(event_kinds),
        groups=groups,
        page=pagination.parse_page(params),
    )


async def count(
    snapshot: Snapshot, query: EventsQuery, period: Period, plan: ReadPlan, _current: Counts | None
) -> Counts:
    """Count events by bucket and group."""
    params = query.resolved
    by = params.group_by
    filters = (as_list(params.funnel_stage), as_list(params.event_type), "funnelStage" in by, "eventType" in by)
    counted: Counts = Counter()
    for bucket, sign, source, (stage, event_type, events) in await snapshot.figures(period, plan, FIGURES, filters):
        counted[bucket, _group(EventKind(source, stage, event_type), by)] += sign * events
    return counted


def rows(query: EventsQuery, figures: Figures[Counts], stored_until: datetime | None) -> list[EventsRow]:
    """Return one row for each bucket and group, with the previous period's figures."""
    current, previous = figures
    listed = [
        EventsRow(
            start=start,
            end=end,
            complete=complete,
            source=group.source,
            funnel_stage=group.funnel_stage,
            event_type=group.event_type,
            events=current[bucket, group],
            previous_events=UNSET if previous is None else query.previous_figure(previous, (bucket, group), bucket, 0),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for group in query.groups
    ]
    if query.resolved.metrics is not UNSET and "share" in query.resolved.metrics:
        _add_shares(listed, len(query.groups))
    return listed


def _add_shares(listed: Sequence[EventsRow], groups: int) -> None:
    """Set the shares of all rows. groups: rows of each bucket."""
    for first in range(0, len(listed), groups):
        bucket = listed[first : first + groups]
        events = sum(row.events for row in bucket)
        previous_events = sum(row.previous_events or 0 for row in bucket if row.previous_events is not UNSET)
        for row in bucket:
            row.share = ratio(row.events, events)
            if row.previous_events is not UNSET:
                row.previous_share = (
                    None if row.previous_events is None else ratio(row.previous_events, previous_events)
                )


def answer(
    query: EventsQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[Counts],
    rows: list[EventsRow],
    next_page: str | None,
) -> EventsAnswer:
    """Return the answer, with totals over all pages."""
    current, previous = figures
    totals = EventsTotals(current.total(), UNSET if previous is None else previous.total())
    return EventsAnswer(query.resolved, freshness, rows, totals, next_page)


def _key(row: EventsRow) -> list[Any]:
    return [row.start, *(None if part is UNSET else part for part in (row.source, row.funnel_stage, row.event_type))]


EVENTS: Final = Report(
    name="events",
    title="Counts of events",
    description="Counts of the events of a range, by bucket and by the dimensions in `groupBy`. Buckets and groups "
    "without events are in the answer, with 0.",
    answer_type=EventsAnswer,
    parameters=(
        *(FROM, TO, RANGE, SOURCE, FUNNEL_STAGE, EVENT_TYPE, INTERVAL, TIME_ZONE, GROUP_BY, METRICS, COMPARE),
        *(LIMIT, AFTER),
    ),
    parse_query=parse_query,
    count=count,
    rows=rows,
    row_key=_key,
    answer=answer,
)
