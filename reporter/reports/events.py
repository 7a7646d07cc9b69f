"""How many events there were: by bucket, and by source, funnel stage and event type where asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

from core.events import facebook, tiktok
from core.events.subjects import SOURCES, Source
from core.settings import ReporterSettings
from reporter.buckets import Interval
from reporter.freshness import Freshness
from reporter.query import FROM, INTERVAL, SOURCE, TIME_ZONE, TO, Asked, BadQuery, Parameter, Period
from reporter.read import Snapshot
from reporter.reports import BucketEnd, BucketStart, Report, Understood
from sql import statements

Stage = Literal["top", "bottom"]
EventType = Literal[facebook.TopType, facebook.BottomType, tiktok.TopType, tiktok.BottomType]
Dimension = Literal["source", "funnelStage", "eventType"]


class Kind(NamedTuple):
    """A source, stage and type that occur together; as a group, UNSET where it is not grouped by."""

    source: Source | UnsetType
    funnel_stage: Stage | UnsetType
    event_type: EventType | UnsetType


KINDS: Final = (
    *(Kind("facebook", "top", event_type) for event_type in get_args(facebook.TopType)),
    *(Kind("facebook", "bottom", event_type) for event_type in get_args(facebook.BottomType)),
    *(Kind("tiktok", "top", event_type) for event_type in get_args(tiktok.TopType)),
    *(Kind("tiktok", "bottom", event_type) for event_type in get_args(tiktok.BottomType)),
)

_SQL: Final = statements("report_events")
_ROWS: Final[dict[Source, str]] = {source: _SQL[f"{source}_rows"] for source in SOURCES}


class UnderstoodEvents(Understood, frozen=True):
    """The query as it was understood."""

    interval: Interval | None
    source: Source | None
    funnel_stage: Stage | None
    event_type: EventType | None
    group_by: tuple[Dimension, ...]


@dataclass(frozen=True)
class EventsQuery:
    """A query for events: rows are buckets of the period times groups."""

    understood: UnderstoodEvents
    period: Period
    sources: tuple[Source, ...]
    groups: tuple[Kind, ...]


class EventsRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one bucket and group. What is not grouped by is left out."""

    start: BucketStart
    end: BucketEnd
    source: Source | UnsetType = UNSET
    funnel_stage: Stage | UnsetType = UNSET
    event_type: EventType | UnsetType = UNSET
    events: int


class EventsTotals(msgspec.Struct):
    """The sum of all rows."""

    events: int


class EventsAnswer(msgspec.Struct):
    """Counts of events, ordered by bucket and group; buckets without events are there, with 0."""

    query: UnderstoodEvents
    freshness: dict[Source, Freshness]
    rows: list[EventsRow]
    totals: EventsTotals

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Sequence[msgspec.Struct]]:
        return EventsRow, self.rows


def ask(asked: Asked, _settings: ReporterSettings) -> EventsQuery:
    """Raises BadQuery."""
    source, stage, event_type = asked.choice("source"), asked.choice("funnelStage"), asked.choice("eventType")
    possible = [kind for kind in KINDS if source in (None, kind.source) and stage in (None, kind.funnel_stage)]
    kinds = [kind for kind in possible if event_type in (None, kind.event_type)]
    if not kinds:
        raise BadQuery(
            "eventType",
            f"{event_type} does not occur with source={source or 'any'} and funnelStage={stage or 'any'}",
            list(dict.fromkeys(str(kind.event_type) for kind in possible)),
        )
    by = asked.several("groupBy")
    groups = tuple(dict.fromkeys(_group(kind, by) for kind in kinds))
    period = asked.period(groups=len(groups))
    understood = UnderstoodEvents(
        start=period.start,
        end=period.end,
        time_zone=period.zone.key,
        interval=period.interval,
        source=cast(Source | None, source),
        funnel_stage=cast(Stage | None, stage),
        event_type=cast(EventType | None, event_type),
        group_by=cast(tuple[Dimension, ...], by),
    )
    sources = tuple(source for source in SOURCES if any(kind.source == source for kind in kinds))
    return EventsQuery(understood, period, sources, groups)


async def read(snapshot: Snapshot, query: EventsQuery) -> EventsAnswer:
    """Raises BadQuery where the period needs rows that are no longer kept."""
    asked = query.understood
    arguments = (
        query.period.inner_bounds,
        asked.funnel_stage,
        asked.event_type,
        "funnelStage" in asked.group_by,
        "eventType" in asked.group_by,
    )
    counted: Counter[tuple[int, Kind]] = Counter()
    async for sign, source, row in snapshot.figures(query.period, _SQL["rollups"], _ROWS, arguments):
        group = _group(Kind(source, row["funnel_stage"], row["event_type"]), asked.group_by)
        counted[row["bucket"], group] += sign * row["events"]
    rows = [
        EventsRow(
            start=start,
            end=end,
            source=group.source,
            funnel_stage=group.funnel_stage,
            event_type=group.event_type,
            events=counted[number, group],
        )
        for number, (start, end) in enumerate(query.period.buckets())
        for group in query.groups
    ]
    return EventsAnswer(asked, snapshot.freshness, rows, EventsTotals(counted.total()))


def _group(kind: Kind, by: Sequence[str]) -> Kind:
    return Kind(
        kind.source if "source" in by else UNSET,
        kind.funnel_stage if "funnelStage" in by else UNSET,
        kind.event_type if "eventType" in by else UNSET,
    )


EVENTS: Final = Report(
    name="events",
    parameters=(
        FROM,
        TO,
        SOURCE,
        Parameter("funnelStage", "Events of this funnel stage alone.", allowed=get_args(Stage)),
        Parameter(
            "eventType",
            "Events of this type alone; the type has to occur with `source` and `funnelStage`.",
            allowed=tuple(dict.fromkeys(str(kind.event_type) for kind in KINDS)),
        ),
        INTERVAL,
        TIME_ZONE,
        Parameter(
            "groupBy", "A row for each value of these, comma separated.", allowed=get_args(Dimension), several=True
        ),
    ),
    ask=ask,
    read=read,
)
