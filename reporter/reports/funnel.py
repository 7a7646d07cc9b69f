"""The funnel report: events of each step, and the rates from step to step, by bucket and source.

It counts events, not people: a person who views an ad twice and clicks once has two events of the first step and one of
the second. So a rate may exceed 1.

Each source has its own funnel, because sources have different event types. A breakdown of a funnel, for example by
campaign, is a further part of Group; it needs counts by event type and the value of that dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from core.sources import SOURCES, SourceName
from reporter import pagination
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, RANGE, SOURCE, TIME_ZONE, TO
from reporter.period import Period, parse_period, parse_previous_period
from reporter.query_params import BadQuery, OrderedChoiceList, QueryParams, one_or_several
from reporter.read_plan import ReadPlan
from reporter.reports import event_figures
from reporter.reports.event_kinds import EVENT_KINDS, EVENT_TYPES, EventType
from reporter.reports.funnel_answer import FunnelAnswer, FunnelRow, FunnelTotals, ResolvedFunnelQuery
from reporter.reports.ratio import ratio
from reporter.reports.report import Figures, Query, Report, resolved_fields
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot

_TYPES_OF: Final[Mapping[SourceName, frozenset[str]]] = {
    source: frozenset(str(event_kind.event_type) for event_kind in EVENT_KINDS if event_kind.source == source)
    for source in SOURCES
}
_DEFAULTS: Final = "; ".join(f"{name}: {', '.join(f'`{step}`' for step in of.funnel)}" for name, of in SOURCES.items())
STEPS: Final = OrderedChoiceList[EventType](
    "steps",
    "Event types, first step first: comma separated, in repeated parameters, or both. The report has the sources that "
    f"have all of these types. By default each source has the steps of its declaration ({_DEFAULTS}).",
    allowed=EVENT_TYPES,
    min_values=2,
    example=",".join(next(iter(SOURCES.values())).funnel),
)


class Group(NamedTuple):
    """What has a funnel of its own in each bucket."""

    source: SourceName


class Step(NamedTuple):
    """A step of a group's funnel. number: from 1."""

    group: Group
    number: int
    event_type: EventType


Counts = Counter[tuple[int, Step]]


@dataclass(frozen=True, kw_only=True)
class FunnelQuery(Query[ResolvedFunnelQuery]):
    """A funnel query. funnels: the steps of each group, of which each bucket has one row."""

    funnels: tuple[tuple[Step, ...], ...]


class StepFigures(NamedTuple):
    """The figures of one step; rates are None if there is nothing to divide by."""

    events: int
    rate: float | None
    overall_rate: float | None


def parse_query(params: QueryParams, _settings: ReporterSettings) -> FunnelQuery:
    """Parse a funnel query. Raises BadQuery."""
    requested, steps = params.get(SOURCE), params.get(STEPS)
    event_types = _steps_of(requested or tuple(SOURCES), steps)
    funnels = tuple(
        tuple(Step(Group(source), number, event_type) for number, event_type in enumerate(of, start=1))
        for source, of in event_types.items()
    )
    period = parse_period(params, groups=sum(map(len, funnels)))
    previous = parse_previous_period(params, period)
    return FunnelQuery(
        resolved=ResolvedFunnelQuery(
            **resolved_fields(period, previous), source=one_or_several(requested), steps=event_types
        ),
        period=period,
        plan=period.read_plan(),
        previous=previous,
        sources=tuple(event_types),
        funnels=funnels,
        page=pagination.parse_page(params),
    )


def _steps_of(
    sources: tuple[SourceName, ...], steps: tuple[EventType, ...] | None
) -> dict[SourceName, tuple[EventType, ...]]:
    """Return the steps of each source. Raises BadQuery if no source has all steps."""
    if steps is None:
        return {source: SOURCES[source].funnel for source in sources}
    having = [source for source in sources if _TYPES_OF[source].issuperset(steps)]
    if not having:
        possible = [event_type for event_type in EVENT_TYPES if any(event_type in _TYPES_OF[of] for of in sources)]
        raise BadQuery("steps", f"{' and '.join(sources)}: no source has all of {', '.join(steps)}", possible)
    return dict.fromkeys(having, steps)


async def count(
    snapshot: Snapshot, query: FunnelQuery, period: Period, plan: ReadPlan, _current: Counts | None
) -> Counts:
    """Count events by bucket and step."""
    steps = {(step.group, step.event_type): step for funnel in query.funnels for step in funnel}
    arguments = event_figures.by_type(sorted({event_type for _, event_type in steps}))
    counted: Counts = Counter()
    figures = await snapshot.figures(period, plan, event_figures.FIGURES, arguments)
    for bucket, sign, source, (_, event_type, events) in figures:
        if step := steps.get((Group(source), event_type)):  # the step of another source may be a type of this one
            counted[bucket, step] += sign * events
    return counted


def rows(query: FunnelQuery, figures: Figures[Counts], stored_until: datetime | None) -> list[FunnelRow]:
    """Return one row for each bucket, source and step, with the previous period's figures."""
    current, previous = figures
    listed = []
    for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until)):
        has_previous = query.previous is not None and query.previous.has_bucket(bucket)
        for funnel in query.funnels:
            before = _of_funnel(funnel, previous, bucket) if previous is not None and has_previous else None
            for number, (step, counted) in enumerate(zip(funnel, _of_funnel(funnel, current, bucket), strict=True)):
                row = FunnelRow(
                    start=start,
                    end=end,
                    complete=complete,
                    source=step.group.source,
                    step=step.number,
                    event_type=step.event_type,
                    events=counted.events,
                    rate=counted.rate,
                    overall_rate=counted.overall_rate,
                )
                if query.previous is not None:
                    row.previous_events, row.previous_rate, row.previous_overall_rate = (
                        before[number] if before else (None, None, None)
                    )
                listed.append(row)
    return listed


def answer(
    query: FunnelQuery,
    freshness: dict[SourceName, Freshness],
    figures: Figures[Counts],
    rows: list[FunnelRow],
    next_page: str | None,
) -> FunnelAnswer:
    """Return the answer, with totals over all pages."""
    current, previous = (None if counts is None else _over_buckets(counts) for counts in figures)
    assert current is not None
    totals = []
    for funnel in query.funnels:
        before = None if previous is None else _of_funnel(funnel, previous, 0)
        for number, (step, counted) in enumerate(zip(funnel, _of_funnel(funnel, current, 0), strict=True)):
            total = FunnelTotals(
                source=step.group.source,
                step=step.number,
                event_type=step.event_type,
                events=counted.events,
                rate=counted.rate,
                overall_rate=counted.overall_rate,
            )
            if before is not None:
                total.previous_events, total.previous_rate, total.previous_overall_rate = before[number]
            totals.append(total)
    return FunnelAnswer(query.resolved, freshness, rows, totals, next_page)


def _over_buckets(counts: Counts) -> Counts:
    """Return the counts of all buckets as those of bucket 0."""
    summed: Counts = Counter()
    for (_, step), events in counts.items():
        summed[0, step] += events
    return summed


def _of_funnel(funnel: tuple[Step, ...], counts: Counts, bucket: int) -> list[StepFigures]:
    """Return the figures of each step in one bucket."""
    events = [counts[bucket, step] for step in funnel]
    return [
        StepFigures(
            counted,
            ratio(counted, events[number - 1]) if number else None,
            ratio(counted, events[0]),
        )
        for number, counted in enumerate(events)
    ]


FUNNEL: Final = Report(
    name="funnel",
    title="Funnel",
    description="Events of each step of a funnel, and the rates from step to step and from the first step, by bucket "
    "and source. **It counts events, not people**: one person may cause several events of a step, so a rate may "
    "exceed 1.",
    answer_type=FunnelAnswer,
    parameters=(FROM, TO, RANGE, SOURCE, STEPS, INTERVAL, TIME_ZONE, COMPARE, LIMIT, AFTER),
    parse_query=parse_query,
    count=count,
    rows=rows,
    row_key=lambda row: [row.start, row.source, row.step],
    answer=answer,
)
