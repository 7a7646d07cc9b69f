"""Who the events come from: facebook's age, gender, country and city, tiktok's followers, country and device.

Every facebook event has all of its dimensions. A tiktok event has followers always, country and device at the top
stage alone. Countries past the first 1,000 (and those of more than 64 characters) are counted together as other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal, cast

import asyncpg
import msgspec
from msgspec import Meta

from core.events.subjects import SOURCES, Source
from core.settings import ReporterSettings
from reporter.freshness import Freshness
from reporter.query import FROM, SOURCE, TIME_ZONE, TO, Asked, Parameter, Period
from reporter.read import Snapshot
from reporter.reports import Report, Understood
from sql import statements

Dimension = Literal["age", "gender", "country", "city", "followers", "device"]
Counts = defaultdict[tuple[Source, str], Counter[str | None]]

FOLLOWERS: Final = ("0-999", "1000-9999", "10000-99999", "100000-999999", "1000000+")
TOP: Final = 20
MOST_TOP: Final = 100

_SQL: Final = statements("report_demographics")
_ROWS: Final[dict[Source, str]] = {source: _SQL[f"{source}_rows"] for source in SOURCES}


class UnderstoodDemographics(Understood, frozen=True):
    """The query as it was understood."""

    source: Source | None
    top: int


@dataclass(frozen=True)
class DemographicsQuery:
    """A query for demographics. cities: None, or why they cannot be told."""

    understood: UnderstoodDemographics
    period: Period
    sources: tuple[Source, ...]
    no_cities: str | None


class Share(msgspec.Struct):
    """Events of one value of a dimension."""

    value: Annotated[str | None, Meta(description="null: other, all values that are not listed")]
    events: int


Shares = Annotated[list[Share], Meta(description="Most events first; age and followers in their own order")]


class FacebookAudience(msgspec.Struct, tag_field="source", tag="facebook"):
    """Facebook's events by who caused them. Ages are '0' to '119' and '120+'."""

    events: int
    age: Shares
    gender: Shares
    country: Shares
    city: Annotated[list[Share] | None, Meta(description="The `top` most frequent ones and other; null: see notes")]


class TiktokAudience(msgspec.Struct, tag_field="source", tag="tiktok"):
    """Tiktok's events by who caused them. Country and device are those of top-stage events."""

    events: int
    followers: Shares
    country: Shares
    device: Shares


class DemographicsTotals(msgspec.Struct):
    """All events of the report."""

    events: int


class DemographicsLine(msgspec.Struct):
    """One row of the CSV. An empty value without quotes is other."""

    source: Source
    dimension: Dimension
    value: str | None
    events: int


class DemographicsAnswer(msgspec.Struct):
    """One row a source."""

    query: UnderstoodDemographics
    freshness: dict[Source, Freshness]
    rows: list[FacebookAudience | TiktokAudience]
    totals: DemographicsTotals
    notes: Annotated[list[str], Meta(description="What is missing from the answer, and how to get it")]

    def table(self) -> tuple[type[msgspec.Struct], Sequence[msgspec.Struct]]:
        return DemographicsLine, list(self._lines())

    def _lines(self) -> Iterator[DemographicsLine]:
        for row in self.rows:
            facebook = isinstance(row, FacebookAudience)
            dimensions = ("age", "gender", "country", "city") if facebook else ("followers", "country", "device")
            for dimension in cast(tuple[Dimension, ...], dimensions):
                for share in getattr(row, dimension) or ():
                    yield DemographicsLine("facebook" if facebook else "tiktok", dimension, share.value, share.events)


def ask(asked: Asked, settings: ReporterSettings) -> DemographicsQuery:
    """Raises BadQuery."""
    source, top, period = cast(Source | None, asked.choice("source")), asked.integer("top", TOP), asked.period()
    understood = UnderstoodDemographics(
        start=period.start, end=period.end, time_zone=period.zone.key, source=source, top=top
    )
    hours = settings.reporter_rows_range_hours
    too_long = period.end - period.start > timedelta(hours=hours)
    no_cities = f"city is told for ranges up to {hours} hours: ask for a shorter one" if too_long else None
    return DemographicsQuery(understood, period, (source,) if source else SOURCES, no_cities)


async def read(snapshot: Snapshot, query: DemographicsQuery) -> DemographicsAnswer:
    """Raises BadQuery where the period needs rows that are no longer kept."""
    counts: Counts = defaultdict(Counter)
    async for sign, source, row in snapshot.figures(query.period, _SQL["rollups"], _ROWS):
        counts[source, row["dimension"]][row["value"]] += sign * row["events"]
    rows: list[FacebookAudience | TiktokAudience] = []
    notes: list[str] = []
    if "facebook" in query.sources:
        events = counts["facebook", "gender"].total()
        rows.append(
            FacebookAudience(
                events=events,
                age=_shares(counts["facebook", "age"], lambda age: int(age.rstrip("+"))),
                gender=_shares(counts["facebook", "gender"]),
                country=_shares(counts["facebook", "country"]),
                city=await _cities(snapshot, query, events, notes),
            )
        )
    if "tiktok" in query.sources:
        rows.append(
            TiktokAudience(
                events=counts["tiktok", "followers"].total(),
                followers=_shares(counts["tiktok", "followers"], FOLLOWERS.index),
                country=_shares(counts["tiktok", "country"]),
                device=_shares(counts["tiktok", "device"]),
            )
        )
    totals = DemographicsTotals(sum(row.events for row in rows))
    return DemographicsAnswer(query.understood, snapshot.freshness, rows, totals, notes)


def _shares(counts: Counter[str | None], order: Callable[[str], int] | None = None) -> list[Share]:
    """What has events, by the given order, else most events first; other comes last."""
    listed = [Share(value, events) for value, events in counts.items() if value is not None and events]
    listed.sort(key=lambda share: (order(share.value or "") if order else -share.events, share.value))
    return [*listed, Share(None, counts[None])] if counts[None] else listed


async def _cities(snapshot: Snapshot, query: DemographicsQuery, events: int, notes: list[str]) -> list[Share] | None:
    """The most frequent cities and the rest, counted from the rows; None, and a note why, where they cannot be."""
    if query.no_cities is not None:
        notes.append(query.no_cities)
        return None
    if query.period.start < snapshot.floor:
        notes.append(f"city is told for ranges from {snapshot.floor.isoformat()} on: older rows are not kept")
        return None
    try:
        async with snapshot.connection.transaction():  # a savepoint: the report goes on without cities
            found = await snapshot.connection.fetch(
                _SQL["cities"], query.period.start, query.period.end, query.understood.top
            )
    except asyncpg.QueryCanceledError:
        notes.append("city took too long to count: ask for a shorter range")
        return None
    cities = [Share(row["value"], row["events"]) for row in found]
    rest = events - sum(city.events for city in cities)
    return [*cities, Share(None, rest)] if rest else cities


DEMOGRAPHICS: Final = Report(
    name="demographics",
    parameters=(
        FROM,
        TO,
        SOURCE,
        Parameter("top", f"How many cities are listed; {TOP} if not given.", bounds=(1, MOST_TOP)),
        TIME_ZONE,
    ),
    ask=ask,
    read=read,
)
