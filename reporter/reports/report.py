"""Parts that all reports share: the resolved query, the comparison with the previous period, the report itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.sources import SourceName
from reporter import pagination
from reporter.buckets import Interval, same_point
from reporter.freshness import Freshness, Instant
from reporter.parameters import BOM
from reporter.period import Period
from reporter.query_params import AnyParameter, QueryParams
from reporter.read_plan import ReadPlan, unit_start
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot

VERSION_PREFIX: Final = "/v1"
"""Before the path of a report. The same path without it gives the same answer."""

BucketStart = Annotated[Instant, Meta(description="Start of the bucket, with the time zone's offset")]
BucketEnd = Annotated[Instant, Meta(description="End of the bucket, exclusive")]
Complete = Annotated[
    bool,
    Meta(
        description="false if the range cuts the bucket, or if some event accepted before its end is not stored yet. "
        "Late events can still be added to a complete bucket"
    ),
]


class Compared(msgspec.Struct, frozen=True, rename="camel"):
    """The period of a comparison."""

    start: Annotated[Instant, Meta(description="Inclusive")] = msgspec.field(name="from")
    end: Annotated[Instant, Meta(description="Exclusive")] = msgspec.field(name="to")
    counted_until: Annotated[
        Instant,
        Meta(
            description="Previous figures count events before this instant. If the range has not ended, it is earlier "
            "than `to`: it is as far into its bucket as `storedUntil` is into the corresponding bucket",
        ),
    ]


class ResolvedQuery(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The resolved query; parameters that the request does not have are null, or left out if they are optional."""

    start: Annotated[Instant, Meta(description="Inclusive")] = msgspec.field(name="from")
    end: Annotated[Instant, Meta(description="Exclusive")] = msgspec.field(name="to")
    time_zone: str
    interval: Interval | None
    compare: Annotated[Compared | None, Meta(description="The period of the comparison")]
    range: Annotated[
        str | UnsetType, Meta(description="The relative range, of which `from` and `to` are the bounds")
    ] = UNSET


Resolved = TypeVar("Resolved", bound=ResolvedQuery)
Key = TypeVar("Key")
Figure = TypeVar("Figure")


@dataclass(frozen=True, kw_only=True)
class Query(Generic[Resolved]):
    """A parsed query of a report."""

    resolved: Resolved
    """The resolved query, which the answer repeats."""
    period: Period
    plan: ReadPlan
    """The read plan of the period."""
    previous: Period | None
    """The period of the comparison."""
    sources: tuple[SourceName, ...]
    """The sources that match the query; only they are read, and the answer has their freshness."""
    page: pagination.Page

    @property
    def from_breakdowns(self) -> bool:
        """Whether the query needs figures that no rollup holds, but breakdowns do."""
        return False

    @property
    def in_one_statement(self) -> bool:
        """Whether one statement on rollups answers the query."""
        return not (self.plan.rows or self.previous or self.from_breakdowns)

    def read_plan(self, period: Period) -> ReadPlan:
        """Return the read plan of a period of this query."""
        return period.read_plan()

    def previous_figure(self, figures: Mapping[Key, Figure], key: Key, bucket: int, zero: Figure) -> Figure | None:
        """Return the previous period's figure for a bucket, `zero` if nothing was counted.

        None if the previous period has no such bucket.
        """
        return figures.get(key, zero) if self.previous and self.previous.has_bucket(bucket) else None

    def until_reached(self, snapshot: Snapshot) -> Self:
        """Return the query with its previous period cut at the point that the current period has reached.

        The point is rounded down to a quarter-hour if rows there are no longer kept.
        """
        period, before, resolved = self.period, self.previous, self.resolved
        if before is None or resolved.compare is None or snapshot.reached >= period.end:
            return self
        at = before.start
        if snapshot.reached > period.start:
            at = same_point(snapshot.reached, period.bounds, before.bounds, before.interval, period.zone)
        if at < snapshot.floor:
            at = unit_start(at, "quarter")
        before = before.until(at)
        compare = msgspec.structs.replace(resolved.compare, counted_until=before.end)
        resolved = msgspec.structs.replace(resolved, compare=compare)
        return dataclasses.replace(self, previous=before, resolved=resolved)


class Answer(Protocol):
    """The answer of a report: a struct that is encoded as JSON."""

    @property
    def query(self) -> ResolvedQuery:
        """The resolved query."""

    freshness: dict[SourceName, Freshness]
    next: str | None

    @property
    def notes(self) -> Sequence[str]:
        """What the answer leaves out, and how to get it."""

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        """Return the row type and the rows of CSV and Arrow. Columns that are UNSET in the first row are left out."""


AnyReportQuery = TypeVar("AnyReportQuery", bound=Query[Any])
Counted = TypeVar("Counted")
Row = TypeVar("Row")


class Figures(NamedTuple, Generic[Counted]):
    """The counts of a query's period, and of the previous period if the query compares."""

    current: Counted
    previous: Counted | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(Generic[AnyReportQuery, Counted, Row]):
    """One report: parse_query -> count -> rows -> answer.

    parse_query  parses the query; raises BadQuery
    count        counts a period; for the previous period, its last argument is the counts of the current one
    rows         makes all rows of the figures; its last argument is the instant up to which all events are stored
    row_key      returns the bucket and groups of a row
    answer       makes the answer of the figures, the rows of the page and `next`

    answer_type, title and description are for the OpenAPI document. is_file: the report is downloaded as a CSV file.
    """

    name: str
    title: str
    description: str
    parameters: tuple[AnyParameter, ...]
    answer_type: type[msgspec.Struct]
    parse_query: Callable[[QueryParams, ReporterSettings], AnyReportQuery]
    count: Callable[[Snapshot, AnyReportQuery, Period, ReadPlan, Counted | None], Awaitable[Counted]]
    rows: Callable[[AnyReportQuery, Figures[Counted], datetime | None], list[Row]]
    row_key: Callable[[Row], list[Any]]
    answer: Callable[[AnyReportQuery, dict[SourceName, Freshness], Figures[Counted], list[Row], str | None], Answer]
    is_file: bool = False

    @property
    def path(self) -> str:
        """The path of the report in URLs."""
        return f"/reports/{self.name}.csv" if self.is_file else f"/reports/{self.name}"

    async def read(self, snapshot: Snapshot, query: AnyReportQuery) -> Answer:
        """Return the answer from one snapshot. Raises BadQuery if it needs rows that are no longer kept."""
        query = query.until_reached(snapshot)
        current = await self.count(snapshot, query, query.period, query.plan, None)
        previous: Counted | None = None
        if query.previous is not None:
            previous = await self.count(snapshot, query, query.previous, query.read_plan(query.previous), current)
        figures = Figures(current, previous)
        rows, next_page = pagination.cut_page(
            self.rows(query, figures, snapshot.stored_until), query.page, self.row_key, query.period.now
        )
        return self.answer(query, snapshot.freshness, figures, rows, next_page)

    def as_file(self) -> Self:
        """Return the same report as a file for spreadsheets."""
        return dataclasses.replace(
            self,
            title=f"{self.name.capitalize()} as a file",
            description="The table of the report as a CSV file for spreadsheets. A sender's text that a spreadsheet "
            "would read as a formula has a `'` before it.",
            parameters=(*self.parameters, BOM),
            is_file=True,
        )


AnyReport = Report[Any, Any, Any]


def left_out_if_exact(*, exact: bool) -> bool | UnsetType:
    """Return the field `exact` of an answer. Answers without it are exact."""
    return UNSET if exact else False


def resolved_fields(period: Period, before: Period | None) -> dict[str, Any]:
    """Return the fields that every resolved query has."""
    compare = Compared(start=before.start, end=before.end, counted_until=before.end) if before else None
    return {
        "start": period.start,
        "end": period.end,
        "time_zone": period.zone.key,
        "interval": period.interval,
        "compare": compare,
        "range": UNSET if period.range is None else period.range,
    }
