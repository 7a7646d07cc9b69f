"""Types of the demographics answer."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from core.sources.declaration import Stage
from reporter.freshness import Freshness
from reporter.reports import audience
from reporter.reports.audience import DIMENSIONS, DIMENSIONS_OF, PAIR, Dimension
from reporter.reports.event_kinds import EventType
from reporter.reports.report import BucketEnd, BucketStart, Complete, ResolvedQuery

Metric = Literal["events", "revenue"]
ZERO: Final = Decimal("0.00")
_ERROR: Final = "Largest possible error of the figure, up or down; only if the answer is not exact"
_REVENUE: Final = "Revenue of the purchases, as a decimal string; only if `metrics` has it"


class ResolvedDemographicsQuery(ResolvedQuery, frozen=True, kw_only=True):
    """The resolved query."""

    source: SourceName | tuple[SourceName, ...] | None
    funnel_stage: Stage | tuple[Stage, ...] | None
    event_type: EventType | tuple[EventType, ...] | None
    group_by: tuple[Dimension, ...]
    top: int
    metrics: tuple[Metric, ...] | UnsetType = UNSET


class Share(msgspec.Struct, rename="camel"):
    """Figures of one value of a dimension."""

    value: Annotated[str | None, Meta(description="null means other: all values that are not listed")]
    events: int
    previous: Annotated[int | UnsetType | None, Meta(description="The figure of the previous period's bucket")] = UNSET
    second: Annotated[str | UnsetType, Meta(description="The second value of a pair, unless it is other")] = UNSET
    revenue: Annotated[Decimal | UnsetType, Meta(description=_REVENUE)] = UNSET
    previous_revenue: Annotated[
        Decimal | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET
    events_error: Annotated[int | UnsetType, Meta(description=_ERROR)] = UNSET
    revenue_error: Annotated[Decimal | UnsetType, Meta(description=_ERROR)] = UNSET
    previous_error: Annotated[int | UnsetType | None, Meta(description=_ERROR)] = UNSET
    previous_revenue_error: Annotated[Decimal | UnsetType | None, Meta(description=_ERROR)] = UNSET


Shares = Annotated[
    list[Share] | UnsetType | None,
    Meta(description="Largest figure first; ages, bands and followers in their own order. If null, see notes"),
]


class AudienceRow(msgspec.Struct, kw_only=True, rename="camel"):
    """Figures of one bucket and source, by audience. Dimensions not in the query or not of the source are left out."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName
    events: int
    previous_events: Annotated[
        int | UnsetType | None, Meta(description="The figure of the previous period's bucket")
    ] = UNSET
    revenue: Annotated[Decimal | UnsetType, Meta(description=_REVENUE)] = UNSET
    previous_revenue: Annotated[
        Decimal | UnsetType | None, Meta(description="The figure of the previous period's bucket")
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
    revenue: Annotated[Decimal | UnsetType, Meta(description=_REVENUE)] = UNSET
    previous_revenue: Annotated[
        Decimal | UnsetType, Meta(description="The figure of the previous period, until countedUntil")
    ] = UNSET


class Line(msgspec.Struct, rename="camel", kw_only=True):
    """One row of the table of CSV and Arrow. Columns that the query does not have are UNSET in each row."""

    start: BucketStart
    end: BucketEnd
    complete: Complete
    source: SourceName
    dimension: Dimension
    value: str | None
    second: str | UnsetType = UNSET
    events: int
    revenue: Decimal | UnsetType = UNSET
    events_error: int | UnsetType = UNSET
    revenue_error: Decimal | UnsetType = UNSET


class ComparedLine(Line, kw_only=True):
    """One row of the table of a comparison."""

    previous_events: int | None
    previous_revenue: Decimal | UnsetType | None = UNSET
    previous_events_error: int | UnsetType | None = UNSET
    previous_revenue_error: Decimal | UnsetType | None = UNSET


class DemographicsAnswer(msgspec.Struct):
    """The demographics answer: one row for each bucket and source."""

    query: ResolvedDemographicsQuery
    freshness: dict[SourceName, Freshness]
    rows: list[Audience]
    totals: DemographicsTotals
    notes: Annotated[list[str], Meta(description="What the answer leaves out, and how to get it")]
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last page")]
    exact: Annotated[
        bool | UnsetType,
        Meta(
            description="false if rare values were cut off when their quarter-hour was counted. Each "
            "figure then has its largest possible error. Left out if all figures are exact"
        ),
    ] = UNSET

    def table(self) -> tuple[type[msgspec.Struct], Iterator[msgspec.Struct]]:
        return Line if self.query.compare is None else ComparedLine, self._lines()

    def _lines(self) -> Iterator[Line]:
        has_pairs = any(PAIR in dimension for dimension in self.query.group_by)
        for row in self.rows:
            for dimension in DIMENSIONS_OF[row.source]:
                for share in getattr(row, audience.attribute_name(dimension), UNSET) or ():
                    columns: dict[str, Any] = {
                        "start": row.start,
                        "end": row.end,
                        "complete": row.complete,
                        "source": row.source,
                        "dimension": dimension,
                        "value": share.value,
                        "events": share.events,
                        "revenue": share.revenue,
                        "events_error": share.events_error,
                        "revenue_error": share.revenue_error,
                    }
                    if has_pairs:
                        columns["second"] = "" if share.second is UNSET else share.second
                    if share.previous is UNSET:
                        yield Line(**columns)
                    else:
                        yield ComparedLine(
                            **columns,
                            previous_events=share.previous,
                            previous_revenue=share.previous_revenue,
                            previous_events_error=share.previous_error,
                            previous_revenue_error=share.previous_revenue_error,
                        )
