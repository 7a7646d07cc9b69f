"""Types of the funnel answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from reporter.freshness import Freshness
from reporter.reports.event_kinds import EventType
from reporter.reports.report import BucketEnd, BucketStart, Complete, ResolvedQuery

Step = Annotated[int, Meta(description="Number of the step, from 1")]
Events = Annotated[int, Meta(description="Events of the step. An event is not a person: one person may cause several")]
Rate = Annotated[
    float | None,
    Meta(
        description="Events of this step per event of the step before; null for the first step, and if the step before "
        "has no events. It may exceed 1"
    ),
]
OverallRate = Annotated[
    float | None, Meta(description="Events of this step per event of the first step; null if that has no events")
]
PREVIOUS = "The figure of the previous period's bucket"
PREVIOUS_TOTAL = "The figure of the previous period, until countedUntil"


class ResolvedFunnelQuery(ResolvedQuery, frozen=True, kw_only=True):
    """The resolved query."""

    source: SourceName | tuple[SourceName, ...] | None
    steps: Annotated[
        dict[SourceName, tuple[EventType, ...]], Meta(description="The steps of each source, first step first")
    ]


class FunnelRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one step of the funnel of one source, in one bucket."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName
    step: Step
    event_type: EventType
    events: Events
    rate: Rate
    overall_rate: OverallRate
    previous_events: Annotated[int | UnsetType | None, Meta(description=PREVIOUS)] = UNSET
    previous_rate: Annotated[float | UnsetType | None, Meta(description=PREVIOUS)] = UNSET
    previous_overall_rate: Annotated[float | UnsetType | None, Meta(description=PREVIOUS)] = UNSET


class FunnelTotals(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one step of the funnel of one source, in the whole range."""

    source: SourceName
    step: Step
    event_type: EventType
    events: Events
    rate: Rate
    overall_rate: OverallRate
    previous_events: Annotated[int | UnsetType, Meta(description=PREVIOUS_TOTAL)] = UNSET
    previous_rate: Annotated[float | UnsetType | None, Meta(description=PREVIOUS_TOTAL)] = UNSET
    previous_overall_rate: Annotated[float | UnsetType | None, Meta(description=PREVIOUS_TOTAL)] = UNSET


class FunnelAnswer(msgspec.Struct):
    """The funnel answer: rows ordered by bucket, source and step. It counts events, not people."""

    query: ResolvedFunnelQuery
    freshness: dict[SourceName, Freshness]
    rows: list[FunnelRow]
    totals: Annotated[list[FunnelTotals], Meta(description="The steps over the whole range, over all pages")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last page")]

    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        return FunnelRow, self.rows
