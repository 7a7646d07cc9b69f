"""Judge the breakdowns: recount them from the rows, in ways of our own, and compare.

    await wrong(connection, most)           what stands in breakdown_counts against the rows; empty if all is right
    await read(connection, ...)             what sql/report_breakdowns.sql says of a range, by bucket and value

The recount shares nothing with the statements that count: rows are grouped in Python, by lists of our own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from core.postgres import AnyConnection
from core.sources import SourceName
from reporter.breakdowns import Order, read_statement
from reporter.read_plan import plan_reads
from tests.support.events import Event, facebook, rfc3339, tiktok

MONDAY = datetime(2000, 1, 3, tzinfo=UTC)
SECONDS = {"quarter": 900, "hour": 3_600, "day": 86_400, "week": 604_800}
PURCHASE = {"facebook": "checkout.complete", "tiktok": "purchase"}
COLUMNS: dict[SourceName, dict[str, tuple[str, ...]]] = {
    "facebook": {
        "campaign": ("campaign_id",),
        "age": ("age",),
        "gender": ("gender",),
        "country": ("country",),
        "city": ("city",),
        "age,gender": ("age", "gender"),
    },
    "tiktok": {"followers": ("followers",), "country": ("country",), "device": ("device",)},
}
TYPES = {
    "facebook": {
        "top": ("ad.view", "page.like", "comment", "video.view"),
        "bottom": ("ad.click", "form.submission", "checkout.complete"),
    },
    "tiktok": {"top": ("video.view", "like", "share", "comment"), "bottom": ("profile.visit", "purchase", "follow")},
}

Value = tuple[str, str | None]


@dataclass
class Sums:
    """Events by type, and revenue."""

    types: Counter[str] = field(default_factory=Counter)
    revenue: Decimal = Decimal(0)

    @property
    def events(self) -> int:
        return self.types.total()


class Row(NamedTuple):
    """A stored event."""

    at: datetime
    event_type: str
    revenue: Decimal
    values: dict[str, Value | None]


class Figure(NamedTuple):
    """What a report shows of a value, and by how much it may be off."""

    events: int = 0
    revenue: Decimal = Decimal(0)
    error: int = 0
    revenue_error: Decimal = Decimal(0)

    def plus(self, other: Figure, sign: int = 1) -> Figure:
        """Both figures as one, or this one without the other; errors add up either way."""
        return Figure(
            self.events + sign * other.events,
            self.revenue + sign * other.revenue,
            self.error + other.error,
            self.revenue_error + other.revenue_error,
        )


def made(rng: Random, source: str, at: datetime, values: str) -> Event:
    """An event whose campaign and city return as Zipf's law says, are new in each event, or are always the same."""
    stage = rng.choice(("top", "bottom"))
    event = facebook(stage, at=at) if source == "facebook" else tiktok(stage, at=at)
    event["eventType"] = rng.choice(TYPES[source][stage])
    value = {"zipf": int(40 ** rng.random()), "unique": rng.getrandbits(48), "one": 1}[values]
    user, engagement = event["data"]["user"], event["data"]["engagement"]
    if source == "facebook":
        user["location"] = {"country": f"Land {value % 7}", "city": f"City {value}"}
        user["age"] = rng.choice((0, 18, 119, 120, 300))
        user["gender"] = rng.choice(("male", "female", "non-binary"))
    else:
        user["followers"] = rng.choice((0, 999, 1_000, 99_999, 1_000_000))
    if "campaignId" in engagement:
        engagement["campaignId"] = f"campaign {value}"
    if "country" in engagement:
        engagement["country"] = f"Land {value}"
    if stage == "bottom":
        engagement["purchaseAmount"] = rng.choice((None, "0.00", f"{rng.randrange(1, 500)}.{rng.randrange(100):02}"))
    return event


async def rows(connection: AnyConnection, source: SourceName) -> list[Row]:
    """All events of a source, with the values of each breakdown; None where an event has none."""
    found = []
    for row in await connection.fetch(f"SELECT * FROM {source}_events"):
        values: dict[str, Value | None] = {}
        for name, columns in COLUMNS[source].items():
            texts = [_text(column, row[column]) for column in columns]
            values[name] = None if None in texts else (str(texts[0]), texts[1] if len(texts) > 1 else None)
        paid = (row["purchase_amount"] or Decimal(0)) if row["event_type"] == PURCHASE[source] else Decimal(0)
        found.append(Row(row["event_time"], row["event_type"], paid, values))
    return found


def _text(column: str, value: Any) -> str | None:
    if value is None:
        return None
    if column == "age":
        return "120+" if value >= 120 else str(value)
    if column == "followers":
        for least, name in (
            (10**6, "1000000+"),
            (10**5, "100000-999999"),
            (10**4, "10000-99999"),
            (10**3, "1000-9999"),
        ):
            if value >= least:
                return name
        return "0-999"
    return str(value)


def start_of(unit: str, at: datetime) -> datetime:
    """The start of the unit that holds an instant."""
    return at - (at - MONDAY) % timedelta(seconds=SECONDS[unit])


def sums(kept: Iterable[Row], breakdown: str) -> dict[Value, Sums]:
    """The exact figures of each value."""
    found: defaultdict[Value, Sums] = defaultdict(Sums)
    for row in kept:
        if (value := row.values[breakdown]) is not None:
            found[value].types[row.event_type] += 1
            found[value].revenue += row.revenue
    return dict(found)


async def wrong(connection: AnyConnection, most: int) -> list[str]:
    """What is wrong in the buckets that are counted, a line each, if each lists at most `most` values."""
    said: list[str] = []
    for source, breakdowns in COLUMNS.items():
        kept = await rows(connection, source)
        counts = {
            (row["unit"], row["bucket"], row["breakdown"]): row
            for row in await connection.fetch("SELECT * FROM breakdown_counts WHERE source = $1::text::source", source)
        }
        for bucket in await connection.fetch(
            "SELECT unit, bucket, events FROM breakdown_buckets WHERE source = $1::text::source", source
        ):
            unit, start, events = bucket
            inside = [row for row in kept if start_of(unit, row.at) == start]
            if len(inside) != events:
                said.append(f"{source} {unit} {start}: {events} are counted, there are {len(inside)} rows")
                continue
            for breakdown in breakdowns:
                found = counts.get((unit, start, breakdown))
                said += [
                    f"{source} {breakdown} {unit} {start}: {line}"
                    for line in _wrong(found, sums(inside, breakdown), most, exact=unit == "quarter")
                ]
    return said


def _wrong(row: Any, true: dict[Value, Sums], most: int, *, exact: bool) -> Iterator[str]:
    if row is None:
        if true:
            yield "is not counted"
        return
    seconds = row["seconds"] or [None] * len(row["values"])
    listed: dict[Value, Sums] = {}
    other = Sums()
    for place, (value, second) in enumerate(zip(row["values"], seconds, strict=True)):
        by_type = dict(zip(row["event_types"], (counts[place] for counts in row["events"]), strict=True))
        one = Sums(Counter(by_type), row["revenue"][place])
        if one.events != row["totals"][place]:
            yield f"{value}: the total is not the sum of its types"
        if value is None:
            other = one
        else:
            listed[value, second] = one
    if len(listed) > most:
        yield f"lists {len(listed)} values"
    for what, whole in (("listed and other", [*listed.values(), other]),):
        for kind in {kind for one in true.values() for kind in one.types}:
            if sum(one.types[kind] for one in whole) != sum(one.types[kind] for one in true.values()):
                yield f"{what} are not all {kind}"
        if sum(one.revenue for one in whole) != sum(one.revenue for one in true.values()):
            yield f"{what} are not all revenue"
    for value, sums_ in true.items():
        shown = listed.get(value)
        low, high = (shown, row["listed_error"]) if shown else (Sums(), row["unlisted_error"])
        if not low.events <= sums_.events <= low.events + high:
            yield f"{value}: {low.events} and at most {high} more, but there are {sums_.events}"
        high = row["listed_revenue_error"] if shown else row["unlisted_revenue_error"]
        if not low.revenue <= sums_.revenue <= low.revenue + high:
            yield f"{value}: revenue {low.revenue} and at most {high} more, but it is {sums_.revenue}"
    if exact:
        ranked = sorted(true, key=lambda value: (-true[value].events, -true[value].revenue, value[0], value[1] or ""))
        if list(listed) != ranked[:most]:
            yield "does not list the values with most events, in their order"


async def read(
    connection: AnyConnection,
    source: SourceName,
    breakdown: str,
    bounds: Sequence[datetime],
    *,
    interval: str | None = None,
    event_types: Sequence[str] | None = None,
    order: Order = "events",
    top: int = 10_000,
    skip: int = 0,
    values: Sequence[Value] | None = None,
) -> tuple[list[dict[Value | None, Figure]], datetime | None]:
    """The figures of each bucket between the bounds by value (None: other), and since when rows were read."""
    last = len(bounds) - 1
    plan = plan_reads(bounds, interval, datetime.now(UTC))
    arrays = [list(column) for column in zip(*plan.ranges, strict=True)] or [[], [], [], [], []]
    found = await connection.fetch(
        read_statement(source, breakdown, order),
        *(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], list(plan.rounded_bounds)),
        *(source, breakdown, event_types, last, top, skip),
        *([None, None] if values is None else [[value for value, _ in values], [second or "" for _, second in values]]),
    )
    parts: defaultdict[tuple[int | None, int | None], dict[Value | None, Figure]] = defaultdict(dict)
    for row in found:
        if row["events"] is not None:
            value = None if row["value"] is None else (row["value"], row["second"])
            parts[row["bucket"], row["bound"]][value] = Figure(
                row["events"], row["revenue"], row["error"], row["revenue_error"]
            )
    names = {value for part in parts.values() for value in part} | {None}
    buckets: list[dict[Value | None, Figure]] = []
    for bucket in range(last):
        figures = {}
        for value in names:
            figure = Figure()
            # What lies before a bound is added to the bucket that it ends, and taken from the one that it begins.
            for part, sign in ((parts[bucket, None], 1), (parts[None, bucket + 1], 1), (parts[None, bucket], -1)):
                nothing = part.get(None, Figure())
                figure = figure.plus(part.get(value, nothing._replace(events=0, revenue=Decimal(0))), sign)
            figures[value] = figure
        buckets.append(figures)
    return buckets, found[0]["rows_since"]


def contradictions(
    buckets: Sequence[dict[Value | None, Figure]],
    kept: Sequence[Row],
    breakdown: str,
    bounds: Sequence[datetime],
    event_types: Sequence[str] | None = None,
) -> list[str]:
    """Where figures say more than the rows: a value further off than its error, or a sum that is not exact."""
    said = []
    for number, (start, end, figures) in enumerate(zip(bounds[:-1], bounds[1:], buckets, strict=True)):
        true = sums((row for row in kept if start <= row.at < end), breakdown)
        counted = event_types or [kind for one in true.values() for kind in one.types]
        events = {value: sum(one.types[kind] for kind in set(counted)) for value, one in true.items()}
        paid = {
            value: one.revenue if set(PURCHASE.values()) & set(counted) else Decimal(0) for value, one in true.items()
        }
        for value in set(figures) - {None}:
            assert value is not None
            shown = figures[value]
            if abs(shown.events - events.get(value, 0)) > shown.error:
                said.append(f"bucket {number} {value}: {shown}, there are {events.get(value, 0)}")
            if abs(shown.revenue - paid.get(value, 0)) > shown.revenue_error:
                said.append(f"bucket {number} {value}: {shown}, revenue is {paid.get(value, 0)}")
        if sum(figure.events for figure in figures.values()) != sum(events.values()):
            said.append(f"bucket {number}: events of all values are not all events")
        if sum(figure.revenue for figure in figures.values()) != sum(paid.values()):
            said.append(f"bucket {number}: revenue of all values is not all revenue")
    return said


def shifted(event: Event, by: timedelta) -> Event:
    """The event at another instant."""
    return {**event, "timestamp": rfc3339(datetime.fromisoformat(event["timestamp"]) + by)}
