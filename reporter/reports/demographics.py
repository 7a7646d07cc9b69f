"""Who the events come from, by the dimensions that their source declares.

Countries without a place in the registry (`known_countries`) are counted together as other.

    rollups hold    all but ranked dimensions                          any range
    rows give       ranked ones; all of it by funnelStage or eventType  ranges up to REPORTER_ROWS_RANGE_HOURS
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.events.subjects import SOURCES, Source
from core.sources.declaration import Stage
from reporter import pages
from reporter.cover import Cover
from reporter.freshness import Freshness
from reporter.parameters import AFTER, COMPARE, FROM, INTERVAL, LIMIT, SOURCE, TIME_ZONE, TO
from reporter.period import Period, period_of, previous_of
from reporter.query import Asked, BadQuery, Several, Whole
from reporter.read import Snapshot, Statements
from reporter.reports import audience
from reporter.reports.audience import BY_DEFAULT, DIMENSIONS, OF, Counts, Dimension
from reporter.reports.kinds import EVENT_TYPE, FUNNEL_STAGE, EventType, chosen, sources_of
from reporter.reports.report import BucketEnd, BucketStart, Complete, Figures, Query, Report, Understood, understood
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


class UnderstoodDemographics(Understood, frozen=True, kw_only=True):
    """The query as it was understood."""

    source: Source | None
    funnel_stage: Stage | None
    event_type: EventType | None
    group_by: tuple[Dimension, ...]
    top: int


@dataclass(frozen=True, kw_only=True)
class DemographicsQuery(Query[UnderstoodDemographics]):
    """A query for demographics. no_ranked: why ranked dimensions cannot be listed, or None."""

    no_ranked: str | None

    @property
    def from_rows(self) -> bool:
        return bool(self.ranked) and self.no_ranked is None

    @property
    def ranked(self) -> list[tuple[Source, str]]:
        """The ranked dimensions that are asked for, with their sources."""
        return audience.ranked(self.understood.group_by, self.sources)

    def cover(self, period: Period) -> Cover:
        return _cover(self.understood, period)


class Share(msgspec.Struct):
    """Events of one value of a dimension."""

    value: Annotated[str | None, Meta(description="null: other, all values that are not listed")]
    events: int
    previous: Annotated[int | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET


Shares = Annotated[
    list[Share] | UnsetType | None,
    Meta(description="Most events first; ages, bands and followers in their own order. null: see notes"),
]


class AudienceOf(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one bucket and source by who caused them. What is not asked for, or not known of it, is left out."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: Source
    events: int
    previous_events: Annotated[int | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET


if TYPE_CHECKING:

    class Audience(AudienceOf):
        def __init__(self, **fields: Any) -> None: ...

else:  # with a list for each dimension that a source declares
    Audience = msgspec.defstruct(
        "Audience",
        [
            (audience.attribute(name), Annotated[Shares, Meta(description=audience.described(name))], UNSET)
            for name in DIMENSIONS
        ],
        bases=(AudienceOf,),
        namespace={"__doc__": AudienceOf.__doc__},
        module=__name__,
        kw_only=True,
        rename="camel",
    )


class DemographicsTotals(msgspec.Struct, rename="camel"):
    """All events of the report, of all pages."""

    events: int
    previous_events: Annotated[int | UnsetType, Meta(description="Of the previous period, until countedUntil")] = UNSET


class Line(msgspec.Struct, rename="camel"):
    """One row of the table. An empty value without quotes is other."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: Source
    dimension: Dimension
    value: str | None
    events: int


class ComparedLine(Line):
    """The same, with the previous period's bucket beside it."""

    previous_events: int | None


class DemographicsAnswer(msgspec.Struct):
    """One row a bucket and source."""

    query: UnderstoodDemographics
    freshness: dict[Source, Freshness]
    rows: list[Audience]
    totals: DemographicsTotals
    notes: Annotated[list[str], Meta(description="What is missing from the answer, and how to get it")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null: this is the last one")]

    def table(self) -> tuple[type[msgspec.Struct], Iterator[msgspec.Struct]]:
        return Line if self.query.compare is None else ComparedLine, self._lines()

    def _lines(self) -> Iterator[Line]:
        for row in self.rows:
            for dimension in OF[row.source]:
                for share in getattr(row, audience.attribute(dimension)) or ():
                    told = (row.start, row.end, row.complete, row.source, dimension, share.value, share.events)
                    yield Line(*told) if share.previous is UNSET else ComparedLine(*told, share.previous)


def ask(asked: Asked, settings: ReporterSettings) -> DemographicsQuery:
    """Raises BadQuery."""
    kinds = chosen(asked)
    sources = sources_of(kinds)
    by = asked.get(GROUP_BY) or BY_DEFAULT
    if not any(dimension in OF[source] for dimension in by for source in sources):
        known = [name for name in DIMENSIONS if any(name in OF[source] for source in sources)]
        raise BadQuery("groupBy", f"{','.join(by)} is not known of {' and '.join(sources)}", known)
    top = asked.get(TOP) or USUAL_TOP
    period = period_of(asked, groups=audience.values(by, sources, top))
    previous = previous_of(asked, period)
    told = UnderstoodDemographics(
        **understood(period, previous),
        source=asked.get(SOURCE),
        funnel_stage=asked.get(FUNNEL_STAGE),
        event_type=asked.get(EVENT_TYPE),
        group_by=by,
        top=top,
    )
    hours = settings.reporter_rows_range_hours
    too_long = period.end - period.start > timedelta(hours=hours)
    filtered = FUNNEL_STAGE if told.funnel_stage else EVENT_TYPE if told.event_type else None
    if filtered and too_long:
        raise BadQuery(filtered.name, f"is for ranges up to {hours} hours: no rollup holds the audience by type")
    names = " and ".join(dict.fromkeys(name for _, name in audience.ranked(by, sources)))
    return DemographicsQuery(
        understood=told,
        period=period,
        covered=_cover(told, period),
        previous=previous,
        sources=sources,
        no_ranked=f"{names} is listed for ranges up to {hours} hours: ask for a shorter one" if too_long else None,
        page=pages.page(asked),
    )


def _cover(understood: UnderstoodDemographics, period: Period) -> Cover:
    """By rows alone where no rollup holds what is asked for."""
    return period.rows() if understood.funnel_stage or understood.event_type else period.cover()


@dataclass
class Counted:
    """What was counted of a period. note: why ranked dimensions are not listed, or None."""

    counts: Counts
    events: dict[Source, Counter[int]]
    note: str | None


async def count(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, covered: Cover, now: Counted | None
) -> Counted:
    """Each source's events by dimension and value, and by a dimension that all of its events have."""
    counts: Counts = defaultdict(dict)
    asked = query.understood
    wanted = audience.counted(asked.group_by, query.sources)
    filters = (asked.funnel_stage, asked.event_type)
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
    now, before = figures
    shares = _Shares(query, figures)
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
            **shares.of(bucket, source),
        )
        for bucket, (start, end, complete) in enumerate(query.period.buckets(stored_until))
        for source in query.sources
    ]


def answer(
    query: DemographicsQuery,
    freshness: dict[Source, Freshness],
    figures: Figures[Counted],
    rows: list[Audience],
    following: str | None,
) -> DemographicsAnswer:
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
    asked = query.understood
    if not query.ranked:
        return None
    if query.no_ranked is not None:
        return query.no_ranked
    for source, name in query.ranked:
        if period.start < snapshot.floor:
            return f"{name} is listed for ranges from {snapshot.floor.isoformat()} on: older rows are not kept"
        known = None if listed is None else sorted(_values_of(listed, source, name))
        top = asked.top if known is None else len(known)
        found = await snapshot.in_time(
            period, audience.ranked_rows(source, name), top, asked.funnel_stage, asked.event_type, known
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


def _values_of(counts: Counts, source: Source, name: str) -> set[str]:
    return {
        value
        for (_, of, dimension), found in counts.items()
        if (of, dimension) == (source, name)
        for value in found
        if value is not None
    }


class _Shares:
    """Makes the lists of a row."""

    def __init__(self, query: DemographicsQuery, figures: Figures[Counted]) -> None:
        self._query = query
        self._by = query.understood.group_by
        self._counts = figures.now.counts
        self._before = None if figures.before is None else figures.before.counts
        self._with_ranked = _note(figures) is None

    def of(self, number: int, source: Source) -> dict[str, list[Share] | None]:
        """The lists of one bucket and source, by their names in Python."""
        return {
            audience.attribute(dimension): self._list(number, source, dimension)
            if self._with_ranked or (source, dimension) not in audience.RANKED
            else None
            for dimension in OF[source]
            if dimension in self._by
        }

    def _list(self, number: int, source: Source, dimension: Dimension) -> list[Share]:
        """What has events, by the dimension's own order, else most events first; other comes last."""
        ranked = (source, dimension) in audience.RANKED
        counts = audience.of(self._counts, number, source, dimension)
        if self._before is None:
            listed = [Share(value, events) for value, events in counts.items() if events]
        elif not self._query.has_previous(number):
            listed = [Share(value, events, None) for value, events in counts.items() if events]
        else:
            before = audience.of(self._before, number, source, dimension)
            values = counts.keys() | before.keys() if not ranked else counts.keys() | {None}
            then = {value: before.get(value, 0) for value in values}
            if ranked:  # of those that are not listed in this bucket, though in another one
                then[None] = sum(before.values()) - sum(found for value, found in then.items() if value is not None)
            now = {value: counts.get(value, 0) for value in values}
            listed = [Share(value, now[value], then[value]) for value in values if now[value] or then[value]]
        order = audience.order(source, dimension)
        listed.sort(
            key=lambda share: (
                share.value is None,
                order[share.value] if order and share.value is not None else -share.events,
                share.value or "",
            )
        )
        return listed


DEMOGRAPHICS: Final = Report(
    name="demographics",
    title="Audience",
    description=f"Events of a range by who caused them: {_AUDIENCES}. Ranked dimensions are counted from the events "
    "themselves, for short ranges only.",
    shape=DemographicsAnswer,
    parameters=(
        FROM,
        TO,
        SOURCE,
        dataclasses.replace(FUNNEL_STAGE, description=f"{FUNNEL_STAGE.description} {_FROM_ROWS}"),
        dataclasses.replace(EVENT_TYPE, description=f"{EVENT_TYPE.description} {_FROM_ROWS}"),
        INTERVAL,
        TIME_ZONE,
        GROUP_BY,
        TOP,
        COMPARE,
        LIMIT,
        AFTER,
    ),
    ask=ask,
    count=count,
    rows=rows,
    key=lambda row: [row.start, row.source],
    answer=answer,
)
