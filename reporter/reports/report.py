"""What all reports share: their parts, the query as it was understood, and comparing with a period that runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec
from msgspec import Meta

from core.sources import SourceName
from reporter import pages
from reporter.buckets import Interval, same_point
from reporter.cover import Cover, unit_start
from reporter.figures import Snapshot
from reporter.freshness import Freshness, Instant
from reporter.parameters import BOM
from reporter.period import Period
from reporter.query import AnyParameter, QueryParams
from reporter.settings import ReporterSettings

BucketStart = Annotated[Instant, Meta(description="First instant of the bucket, with the time zone's offset")]
BucketEnd = Annotated[Instant, Meta(description="End of the bucket, exclusive")]
Complete = Annotated[
    bool,
    Meta(
        description="false: the range cuts the bucket, or not everything that was accepted before its end is stored. "
        "Late events can still come to a complete one"
    ),
]


class Compared(msgspec.Struct, frozen=True, rename="camel"):
    """The period that is compared with."""

    start: Annotated[Instant, Meta(description="Inclusive")] = msgspec.field(name="from")
    end: Annotated[Instant, Meta(description="Exclusive")] = msgspec.field(name="to")
    counted_until: Annotated[
        Instant,
        Meta(
            description="Previous figures count events before this instant. It is earlier than `to` while the range is "
            "not over: it has passed as much of its bucket as `storedUntil` has of the bucket beside it",
        ),
    ]


class ResolvedQuery(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The query as it was understood; what was not given is null."""

    start: Annotated[Instant, Meta(description="Inclusive")] = msgspec.field(name="from")
    end: Annotated[Instant, Meta(description="Exclusive")] = msgspec.field(name="to")
    time_zone: str
    interval: Interval | None
    compare: Annotated[Compared | None, Meta(description="The previous period")]


Resolved = TypeVar("Resolved", bound=ResolvedQuery)


@dataclass(frozen=True, kw_only=True)
class Query(Generic[Resolved]):
    """What a report was asked for, as it was understood."""

    understood: Resolved
    """The query as the answer repeats it."""
    period: Period
    covered: Cover
    """What has to be read of the period."""
    previous: Period | None
    """The period that is compared with."""
    sources: tuple[SourceName, ...]
    """The sources that can contribute: they alone are read, and the answer has their freshness."""
    page: pages.Page

    @property
    def from_rows(self) -> bool:
        """Whether something is asked for that no rollup holds."""
        return False

    @property
    def in_one_statement(self) -> bool:
        """Whether one statement on the rollups answers it."""
        return not (self.covered.rows or self.previous or self.from_rows)

    def cover(self, period: Period) -> Cover:
        """What has to be read of a period of this query."""
        return period.cover()

    def has_previous(self, bucket: int) -> bool:
        """Whether the previous period has a bucket beside this one."""
        return self.previous is not None and self.previous.has(bucket)

    def so_far(self, snapshot: Snapshot) -> Self:
        """The query with its previous period cut at the point that its own period has reached at this moment.

        The point is a quarter-hour if the rows there are no longer kept.
        """
        period, before, understood = self.period, self.previous, self.understood
        if before is None or understood.compare is None or snapshot.reached >= period.end:
            return self
        at = before.start
        if snapshot.reached > period.start:
            at = same_point(snapshot.reached, period.bounds, before.bounds, before.interval, period.zone)
        if at < snapshot.floor:
            at = unit_start(at, "quarter")
        before = before.until(at)
        compare = msgspec.structs.replace(understood.compare, counted_until=before.end)
        understood = msgspec.structs.replace(understood, compare=compare)
        return dataclasses.replace(self, previous=before, understood=understood)


class Answer(Protocol):
    """What a report says: a struct that is the JSON answer as it stands."""

    @property
    def query(self) -> ResolvedQuery:
        """The query as it was understood."""

    freshness: dict[SourceName, Freshness]
    next: str | None

    @property
    def notes(self) -> Sequence[str]:
        """What is missing from the answer, and how to get it."""

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        """The rows as CSV and Arrow have them, and their type. Columns that are UNSET in the first row are left out."""


AskedFor = TypeVar("AskedFor", bound=Query[Any])
Counted = TypeVar("Counted")
Row = TypeVar("Row")


class Figures(NamedTuple, Generic[Counted]):
    """What was counted of a query's period, and of the period before where it is compared with one."""

    now: Counted
    before: Counted | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(Generic[AskedFor, Counted, Row]):
    """One report: ask -> count -> rows -> answer.

    ask         reads the query; raises BadQuery
    count       counts a period; of the previous one it is given what was counted of the query's own
    rows        makes all rows of the figures; also given the instant that everything of the sources is stored until
    key         what a row is of
    answer      is given the figures, the rows of the page and `next`

    shape, title and description are those of the OpenAPI document. is_file: it is downloaded as a CSV file.
    """

    name: str
    title: str
    description: str
    parameters: tuple[AnyParameter, ...]
    shape: type[msgspec.Struct]
    ask: Callable[[QueryParams, ReporterSettings], AskedFor]
    count: Callable[[Snapshot, AskedFor, Period, Cover, Counted | None], Awaitable[Counted]]
    rows: Callable[[AskedFor, Figures[Counted], datetime | None], list[Row]]
    key: Callable[[Row], list[Any]]
    answer: Callable[[AskedFor, dict[SourceName, Freshness], Figures[Counted], list[Row], str | None], Answer]
    is_file: bool = False

    @property
    def path(self) -> str:
        """Its path in URLs."""
        return f"/reports/{self.name}.csv" if self.is_file else f"/reports/{self.name}"

    async def read(self, snapshot: Snapshot, query: AskedFor) -> Answer:
        """The answer from one moment of the database. Raises BadQuery where it needs rows that are no longer kept."""
        query = query.so_far(snapshot)
        now = await self.count(snapshot, query, query.period, query.covered, None)
        before: Counted | None = None
        if query.previous is not None:
            before = await self.count(snapshot, query, query.previous, query.cover(query.previous), now)
        figures = Figures(now, before)
        rows, following = pages.cut(self.rows(query, figures, snapshot.stored_until), query.page, self.key)
        return self.answer(query, snapshot.freshness, figures, rows, following)

    def as_file(self) -> Self:
        """The same report as a file for spreadsheets."""
        return dataclasses.replace(
            self,
            title=f"{self.name.capitalize()} as a file",
            description="The report's table in CSV for spreadsheets, with a name to save it under. Texts of senders "
            "that would be formulas have a `'` before them.",
            parameters=(*self.parameters, BOM),
            is_file=True,
        )


AnyReport = Report[Any, Any, Any]


def understood(period: Period, before: Period | None) -> dict[str, Any]:
    """The fields that every understood query repeats."""
    compare = Compared(start=before.start, end=before.end, counted_until=before.end) if before else None
    return {
        "start": period.start,
        "end": period.end,
        "time_zone": period.zone.key,
        "interval": period.interval,
        "compare": compare,
    }
