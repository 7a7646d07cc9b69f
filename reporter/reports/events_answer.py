"""Types of the events answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from core.sources.declaration import Stage
from reporter.freshness import Freshness
from reporter.reports.event_kinds import EventType
from reporter.reports.report import BucketEnd, BucketStart, Complete, ResolvedQuery

Dimension = Literal["source", "funnelStage", "eventType"]
Metric = Literal["events", "share"]


class ResolvedEventsQuery(ResolvedQuery, frozen=True, kw_only=True):
    """The resolved query."""

    source: SourceName | tuple[SourceName, ...] | None
    funnel_stage: Stage | tuple[Stage, ...] | None
    event_type: EventType | tuple[EventType, ...] | None
    group_by: tuple[Dimension, ...]
    metrics: tuple[Metric, ...] | UnsetType = UNSET


Previous = Annotated[
    int | UnsetType | None,
    Meta(description="The figure of the previous period's bucket; null if there is none, or none before countedUntil"),
]


class EventsRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one bucket and group. Dimensions that are not grouped by are left out."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName | UnsetType = UNSET
    funnel_stage: Stage | UnsetType = UNSET
    event_type: EventType | UnsetType = UNSET
    events: int
    previous_events: Previous = UNSET
    share: Annotated[
        float | UnsetType | None,
        Meta(description="Share of the group in the events of the bucket, 0 to 1; null if there are none"),
    ] = UNSET
    previous_share: Annotated[
        float | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET


class EventsTotals(msgspec.Struct, rename="camel"):
    """The sum of all rows, over all pages."""

    events: int
    previous_events: Annotated[
        int | UnsetType, Meta(description="The figure of the previous period, until countedUntil")
    ] = UNSET


class EventsAnswer(msgspec.Struct):
    """The events answer: rows ordered by bucket and group; buckets without events have 0."""

    query: ResolvedEventsQuery
    freshness: dict[SourceName, Freshness]
    rows: list[EventsRow]
    totals: EventsTotals
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last page")]

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        return EventsRow, self.rows
