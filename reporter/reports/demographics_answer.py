"""Types of the demographics answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from core.sources.declaration import Stage
from reporter.freshness import Freshness
from reporter.reports import audience
from reporter.reports.audience import DIMENSIONS, DIMENSIONS_OF, Dimension
from reporter.reports.event_kinds import EventType
from reporter.reports.report import BucketEnd, BucketStart, Complete, ResolvedQuery


class ResolvedDemographicsQuery(ResolvedQuery, frozen=True, kw_only=True):
    """The resolved query."""

    source: SourceName | tuple[SourceName, ...] | None
    funnel_stage: Stage | tuple[Stage, ...] | None
    event_type: EventType | tuple[EventType, ...] | None
    group_by: tuple[Dimension, ...]
    top: int


class Share(msgspec.Struct):
    """Events of one value of a dimension."""

    value: Annotated[str | None, Meta(description="null means other: all values that are not listed")]
    events: int
    previous: Annotated[int | UnsetType | None, Meta(description="The figure of the previous period's bucket")] = UNSET


Shares = Annotated[
    list[Share] | UnsetType | None,
    Meta(description="Most events first; ages, bands and followers in their own order. If null, see notes"),
]


class AudienceRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Events of one bucket and source, by audience. Dimensions not in the query, or not of the source, are left out."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName
    events: int
    previous_events: Annotated[
        int | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET


if TYPE_CHECKING:

    class Audience(AudienceRow):
        def __init__(self, **fields: Any) -> None: ...

else:  # with a list for each dimension that a source declares
    Audience = msgspec.defstruct(
        "Audience",
        [
            (audience.attribute_name(name), Annotated[Shares, Meta(description=audience.describe(name))], UNSET)
            for name in DIMENSIONS
        ],
        bases=(AudienceRow,),
        namespace={"__doc__": AudienceRow.__doc__},
        module=__name__,
        kw_only=True,
        rename="camel",
    )


class DemographicsTotals(msgspec.Struct, rename="camel"):
    """All events of the report, over all pages."""

    events: int
    previous_events: Annotated[
        int | UnsetType, Meta(description="The figure of the previous period, until countedUntil")
    ] = UNSET


class Line(msgspec.Struct, rename="camel"):
    """One row of the table of CSV and Arrow."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName
    dimension: Dimension
    value: str | None
    events: int


class ComparedLine(Line):
    """One row of the table of a comparison."""

    previous_events: int | None


class DemographicsAnswer(msgspec.Struct):
    """The demographics answer: one row for each bucket and source."""

    query: ResolvedDemographicsQuery
    freshness: dict[SourceName, Freshness]
    rows: list[Audience]
    totals: DemographicsTotals
    notes: Annotated[list[str], Meta(description="What the answer leaves out, and how to get it")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last page")]

    def table(self) -> tuple[type[msgspec.Struct], Iterator[msgspec.Struct]]:
        return Line if self.query.compare is None else ComparedLine, self._lines()

    def _lines(self) -> Iterator[Line]:
        for row in self.rows:
            for dimension in DIMENSIONS_OF[row.source]:
                for share in getattr(row, audience.attribute_name(dimension)) or ():
                    cells = (row.start, row.end, row.complete, row.source, dimension, share.value, share.events)
                    yield Line(*cells) if share.previous is UNSET else ComparedLine(*cells, share.previous)
