"""What all reports share: their parts, the query as it was understood, and comparing with a period that runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Meta

from core.events.subjects import Source
from core.settings import ReporterSettings
from reporter.buckets import Interval, same_point
from reporter.cover import unit_start
from reporter.freshness import Freshness, Instant
from reporter.parameters import BOM
from reporter.period import Period
from reporter.query import AnyParameter, Asked
from reporter.read import Snapshot

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


class Understood(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The query as it was understood; what was not given is null."""

    start: Annotated[Instant, Meta(description="Inclusive")] = msgspec.field(name="from")
    end: Annotated[Instant, Meta(description="Exclusive")] = msgspec.field(name="to")
    time_zone: str
    interval: Interval | None
    compare: Annotated[Compared | None, Meta(description="The previous period")]


class Query(Protocol):
    """What a report was asked for, as it was understood."""

    @property
    def understood(self) -> Understood:
        """The query as the answer repeats it."""

    @property
    def previous(self) -> Period | None:
        """The period that is compared with."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that can contribute: they alone are read, and their freshness is told."""

    @property
    def period(self) -> Period:
        """What is asked for."""

    @property
    def in_one_statement(self) -> bool:
        """Whether one statement on the rollups answers it."""


class Answer(Protocol):
    """What a report says: a struct that is the JSON answer as it stands."""

    @property
    def query(self) -> Understood:
        """The query as it was understood."""

    freshness: dict[Source, Freshness]
    next: str | None

    @property
    def notes(self) -> Sequence[str]:
        """What is missing from the answer, and how to get it."""

    def table(self) -> tuple[type[msgspec.Struct], Iterable[msgspec.Struct]]:
        """The rows as CSV and Arrow have them, and their type. Columns that are UNSET in the first row are left out."""


AskedFor = TypeVar("AskedFor", bound=Query)


@dataclass(frozen=True, eq=False)
class Report(Generic[AskedFor]):
    """One report: `ask` reads its query and raises BadQuery, `read` answers it from one moment of the database.

    title and description are those of the OpenAPI document. is_file: it is downloaded as a CSV file.
    """

    name: str
    title: str
    description: str
    parameters: tuple[AnyParameter, ...]
    answer: type[msgspec.Struct]
    ask: Callable[[Asked, ReporterSettings], AskedFor]
    read: Callable[[Snapshot, AskedFor], Awaitable[Answer]]
    is_file: bool = False

    @property
    def path(self) -> str:
        """Its path in URLs."""
        return f"/reports/{self.name}.csv" if self.is_file else f"/reports/{self.name}"

    def as_file(self) -> Report[AskedFor]:
        """The same report as a file for spreadsheets."""
        return dataclasses.replace(
            self,
            title=f"{self.name.capitalize()} as a file",
            description="The report's table in CSV for spreadsheets, with a name to save it under. Texts of senders "
            "that would be formulas have a `'` before them.",
            parameters=(*self.parameters, BOM),
            is_file=True,
        )


AnyReport = Report[Any]


def compared(period: Period | None) -> Compared | None:
    """How the understood query tells it."""
    return Compared(start=period.start, end=period.end, counted_until=period.end) if period else None


def so_far(query: AskedFor, snapshot: Snapshot) -> AskedFor:
    """The query with its previous period cut at the point that its own period has reached at this moment.

    The point is a quarter-hour if the rows there are no longer kept.
    """
    period, before, understood = query.period, query.previous, query.understood
    if before is None or understood.compare is None or snapshot.reached >= period.end:
        return query
    at = before.start
    if snapshot.reached > period.start:
        at = same_point(snapshot.reached, period.bounds, before.bounds, before.interval, period.zone)
    if at < snapshot.floor:
        at = unit_start(at, "quarter")
    before = before.until(at)
    compare = msgspec.structs.replace(understood.compare, counted_until=before.end)
    return dataclasses.replace(
        query,  # type: ignore[type-var]
        previous=before,
        understood=msgspec.structs.replace(understood, compare=compare),
    )
