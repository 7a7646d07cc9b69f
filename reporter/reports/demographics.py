"""Who the events come from: facebook's age, gender, country and city, tiktok's followers, country and device.

Every facebook event has all of its dimensions. A tiktok event has followers always, country and device at the top
stage alone. Countries without a place in the registry (`known_countries`) are counted together as other.

    rollups hold    age, gender, country, followers, device      any range
    rows give       city; all of it by funnelStage or eventType  ranges up to REPORTER_ROWS_RANGE_HOURS
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.events.subjects import SOURCES, Source
from core.settings import ReporterSettings
from core.sources.declaration import Stage
from reporter import pages
from reporter.cover import Cover
from reporter.freshness import Freshness
from reporter.query import (
    AFTER,
    COMPARE,
    FROM,
    INTERVAL,
    LIMIT,
    SOURCE,
    TIME_ZONE,
    TO,
    Asked,
    BadQuery,
    Parameter,
    Period,
)
from reporter.read import Snapshot, Statements
from reporter.reports import BucketEnd, BucketStart, Complete, Report, Understood, audience, compared, so_far
from reporter.reports.audience import BY_DEFAULT, DIMENSIONS, OF, Counts, Dimension
from reporter.reports.kinds import EVENT_TYPE, FUNNEL_STAGE, EventType, chosen, sources_of
from sql import statements

TOP: Final = 20
MOST_TOP: Final = 100
_FROM_ROWS: Final = "For ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise): no rollup holds it."

_SQL: Final = statements("report_demographics")
_FIGURES: Final = Statements(_SQL["rollups"], {source: _SQL[f"{source}_rows"] for source in SOURCES})


class UnderstoodDemographics(Understood, frozen=True, kw_only=True):
    """The query as it was understood."""

    source: Source | None
    funnel_stage: Stage | None
    event_type: EventType | None
    group_by: tuple[Dimension, ...]
    top: int


@dataclass(frozen=True)
class DemographicsQuery:
    """A query for demographics. cities: None, or why they cannot be told."""

    understood: UnderstoodDemographics
    period: Period
    covered: Cover
    previous: Period | None
    sources: tuple[Source, ...]
    no_cities: str | None
    page: pages.Page

    @property
    def in_one_statement(self) -> bool:
        return not (self.covered.rows or self.previous or self.with_cities)

    @property
    def with_cities(self) -> bool:
        return "city" in self.understood.group_by and "facebook" in self.sources and self.no_cities is None


class Share(msgspec.Struct):
    """Events of one value of a dimension."""

    value: Annotated[str | None, Meta(description="null: other, all values that are not listed")]
    events: int
    previous: Annotated[int | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET


Shares = Annotated[
    list[Share] | UnsetType | None,
    Meta(description="Most events first; ages, bands and followers in their own order. null: see notes"),
]


class Audience(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one bucket and source by who caused them. What is not asked for, or not known of it, is left out."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: Source
    events: int
    previous_events: Annotated[int | UnsetType | None, Meta(description="Of the previous period's bucket")] = UNSET
    age: Annotated[Shares, Meta(description="'0' to '119' and '120+'; facebook")] = UNSET
    age_band: Annotated[Shares, Meta(description="'0-17' to '65+'; facebook")] = UNSET
    gender: Annotated[Shares, Meta(description="Facebook")] = UNSET
    country: Shares = UNSET
    city: Annotated[Shares, Meta(description="The `top` most frequent ones of the bucket, and other; facebook")] = UNSET
    followers: Annotated[Shares, Meta(description="Tiktok")] = UNSET
    device: Annotated[Shares, Meta(description="Tiktok, top stage")] = UNSET


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
    by = cast(tuple[Dimension, ...], asked.several("groupBy")) or BY_DEFAULT
    if not any(dimension in OF[source] for dimension in by for source in sources):
        known = [name for name in DIMENSIONS if any(name in OF[source] for source in sources)]
        raise BadQuery("groupBy", f"{','.join(by)} is not known of {' and '.join(sources)}", known)
    top = asked.integer("top", TOP)
    period = asked.period(groups=audience.values(by, sources, top))
    previous = asked.compared(period)
    understood = UnderstoodDemographics(
        start=period.start,
        end=period.end,
        time_zone=period.zone.key,
        interval=period.interval,
        compare=compared(previous),
        source=asked.choice("source"),
        funnel_stage=cast(Stage | None, asked.choice("funnelStage")),
        event_type=asked.choice("eventType"),
        group_by=by,
        top=top,
    )
    hours = settings.reporter_rows_range_hours
    too_long = period.end - period.start > timedelta(hours=hours)
    filtered = "funnelStage" if understood.funnel_stage else "eventType" if understood.event_type else None
    if filtered and too_long:
        raise BadQuery(filtered, f"is for ranges up to {hours} hours: no rollup holds the audience by type")
    no_cities = f"city is told for ranges up to {hours} hours: ask for a shorter one" if too_long else None
    return DemographicsQuery(
        understood, period, _cover(understood, period), previous, sources, no_cities, pages.page(asked)
    )


def _cover(understood: UnderstoodDemographics, period: Period) -> Cover:
    """By rows alone where no rollup holds what is asked for."""
    return period.rows() if understood.funnel_stage or understood.event_type else period.cover()


async def read(snapshot: Snapshot, query: DemographicsQuery) -> DemographicsAnswer:
    """Raises BadQuery where the period needs rows that are no longer kept."""
    query = so_far(query, snapshot)
    counts = await _count(snapshot, query, query.period, query.covered)
    note = await _count_cities(snapshot, query, query.period, counts)
    now = {source: audience.events(counts, source) for source in query.sources}
    totals = DemographicsTotals(sum(events.total() for events in now.values()))
    before: Counts | None = None
    then: dict[Source, Counter[int]] = {}
    if query.previous is not None:
        before = await _count(snapshot, query, query.previous, _cover(query.understood, query.previous))
        listed = {
            city for (_, _, name), found in counts.items() if name == "city" for city in found if city is not None
        }
        note = note or await _count_cities(snapshot, query, query.previous, before, sorted(listed))
        then = {source: audience.events(before, source) for source in query.sources}
        totals.previous_events = sum(events.total() for events in then.values())
    shares = _Shares(query, counts, before, with_cities=note is None)
    rows = [
        Audience(
            start=start,
            end=end,
            complete=complete,
            source=source,
            events=now[source][number],
            previous_events=_previous(query, then[source], number) if then else UNSET,
            **shares.of(number, source),
        )
        for number, (start, end, complete) in enumerate(query.period.buckets(snapshot.stored_until))
        for source in query.sources
    ]
    rows, following = pages.cut(rows, query.page, lambda row: [row.start, row.source])
    return DemographicsAnswer(query.understood, snapshot.freshness, rows, totals, [note] if note else [], following)


def _previous(query: DemographicsQuery, then: Counter[int], number: int) -> int | None:
    return then[number] if query.previous and query.previous.has(number) else None


async def _count(snapshot: Snapshot, query: DemographicsQuery, period: Period, covered: Cover) -> Counts:
    """Without cities. Each source's events are counted by a dimension that all of its events have."""
    counts: Counts = defaultdict(dict)
    asked = query.understood
    wanted = audience.counted(asked.group_by, query.sources)
    filters = (asked.funnel_stage, asked.event_type)
    figures = await snapshot.figures(period, covered, _FIGURES, (wanted,), filters)
    for bucket, sign, source, (dimension, value, events) in figures:
        found = counts[bucket, source, dimension]
        found[value] = found.get(value, 0) + sign * events
    return counts


async def _count_cities(
    snapshot: Snapshot, query: DemographicsQuery, period: Period, counts: Counts, listed: Sequence[str] | None = None
) -> str | None:
    """Add the most frequent cities of each bucket, or the listed ones, and the rest; or tell why not."""
    asked = query.understood
    if "city" not in asked.group_by or "facebook" not in query.sources:
        return None
    if query.no_cities is not None:
        return query.no_cities
    if period.start < snapshot.floor:
        return f"city is told for ranges from {snapshot.floor.isoformat()} on: older rows are not kept"
    top = asked.top if listed is None else len(listed)
    found = await snapshot.in_time(period, _SQL["cities"], top, asked.funnel_stage, asked.event_type, listed)
    if found is None:
        return "city took too long to count: ask for a shorter range"
    rest = audience.events(counts, "facebook")
    for row in found:
        counts[row["number"], "facebook", "city"][row["value"]] = row["events"]
        rest[row["number"]] -= row["events"]
    for number, events in rest.items():
        counts[number, "facebook", "city"][None] = events
    return None


class _Shares:
    """Makes the lists of a row."""

    def __init__(self, query: DemographicsQuery, counts: Counts, before: Counts | None, *, with_cities: bool) -> None:
        self._by = query.understood.group_by
        self._counts, self._before, self._with_cities = counts, before, with_cities
        self._previous = query.previous

    def of(self, number: int, source: Source) -> dict[str, list[Share] | None]:
        """The lists of one bucket and source, by their names in Python."""
        return {
            audience.attribute(dimension): self._list(number, source, dimension)
            if dimension != "city" or self._with_cities
            else None
            for dimension in OF[source]
            if dimension in self._by
        }

    def _list(self, number: int, source: Source, dimension: Dimension) -> list[Share]:
        """What has events, by the dimension's own order, else most events first; other comes last."""
        counts = audience.of(self._counts, number, source, dimension)
        if self._before is None or self._previous is None:
            listed = [Share(value, events) for value, events in counts.items() if events]
        elif not self._previous.has(number):
            listed = [Share(value, events, None) for value, events in counts.items() if events]
        else:
            before = audience.of(self._before, number, source, dimension)
            values = counts.keys() | before.keys() if dimension != "city" else counts.keys() | {None}
            then = {value: before.get(value, 0) for value in values}
            if dimension == "city":  # of those that are not listed in this bucket, though in another one
                then[None] = sum(before.values()) - sum(found for value, found in then.items() if value is not None)
            now = {value: counts.get(value, 0) for value in values}
            listed = [Share(value, now[value], then[value]) for value in values if now[value] or then[value]]
        order: Callable[[str], int] | None = audience.ORDERS.get(dimension)
        listed.sort(
            key=lambda share: (
                share.value is None,
                order(share.value) if order and share.value is not None else -share.events,
                share.value or "",
            )
        )
        return listed


DEMOGRAPHICS: Final = Report(
    name="demographics",
    parameters=(
        FROM,
        TO,
        SOURCE,
        FUNNEL_STAGE._replace(description=f"{FUNNEL_STAGE.description} {_FROM_ROWS}"),
        EVENT_TYPE._replace(description=f"{EVENT_TYPE.description} {_FROM_ROWS}"),
        INTERVAL,
        TIME_ZONE,
        Parameter(
            "groupBy",
            "What is listed of the audience; repeated, comma separated, or both. All but `ageBand` if not given. "
            "`city` is listed for ranges up to REPORTER_ROWS_RANGE_HOURS (24 unless set otherwise).",
            allowed=DIMENSIONS,
            several=True,
            example="ageBand,gender",
        ),
        Parameter("top", f"How many cities are listed; {TOP} if not given. The rest is other.", bounds=(1, MOST_TOP)),
        COMPARE,
        LIMIT,
        AFTER,
    ),
    ask=ask,
    read=read,
)
