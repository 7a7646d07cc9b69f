"""Queries of `bench.reports`: typical ones, distinct ones, the worst case, and queries answered from breakdowns."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.readers import Query
from reporter.query_params import MAX_ROWS

DAYS: Final = 30
RNG: Final = random.Random(1)


def typical(report: str) -> Query:
    """Return a query of 30 days by day, that ends within the last three days."""
    end = _today() + timedelta(days=1 - RNG.randrange(3))
    by = "gender" if report == "demographics" else "source"
    return Query(report, {**_range(end - timedelta(days=DAYS), end), "interval": "day", "groupBy": by})


def apart(report: str) -> Query:
    """Return a typical query with a random limit, which makes it distinct without changing its result."""
    query = typical(report)
    return Query(report, {**query.parameters, "limit": str(RNG.randrange(1_000, MAX_ROWS))})


def worst(report: str) -> Query:
    """Return a worst-case query: unaligned ends, a time zone not aligned with UTC hours, and many rows."""
    start = datetime.now(UTC) - timedelta(days=DAYS - 1, minutes=RNG.randrange(1, 400), seconds=7)
    end = datetime.now(UTC) - timedelta(minutes=RNG.randrange(1, 400), seconds=3)
    zone = {**_range(start, end), "timeZone": "Asia/Kathmandu"}
    return Query(
        report,
        {
            "events": {**zone, "interval": "hour", "groupBy": "source,funnelStage,eventType"},
            "revenue": {**zone, "interval": "15minutes", "groupBy": "source"},
            "demographics": {**zone, "interval": "day", "groupBy": "age,gender,country,followers,device"},
        }[report],
    )


def whole_audience(_report: str) -> Query:
    """Return a query of all dimensions in rollups, over 30 days in one bucket."""
    end = _today() + timedelta(days=1 - RNG.randrange(3))
    by = "age,gender,country,followers,device"
    return Query("demographics", {**_range(end - timedelta(days=DAYS), end), "groupBy": by})


BREAKDOWNS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "campaigns": ("revenue", {"groupBy": "campaignId"}),
    "campaigns by day": ("revenue", {"groupBy": "campaignId", "interval": "day"}),
    "one campaign by day": ("revenue", {"campaignId": "camp-00000", "interval": "day"}),
    "cities": ("demographics", {"groupBy": "city"}),
    "cities of purchases": ("demographics", {"groupBy": "city", "eventType": "checkout.complete"}),
    "revenue by audience": ("demographics", {"groupBy": "ageBand,gender,country", "metrics": "revenue"}),
    "ages by gender": ("demographics", {"groupBy": "ageBand:gender"}),
}


def breakdown(name: str) -> Query:
    """Return a query of 30 days that is answered from breakdowns: whole days, the last of them today, or any range."""
    report, parameters = BREAKDOWNS[name]
    end = _today() + timedelta(days=1 - RNG.randrange(3))
    if RNG.random() < 0.5:
        end = datetime.now(UTC) - timedelta(minutes=RNG.randrange(1, 4_000), seconds=7)
    return Query(report, {**_range(max(end - timedelta(days=DAYS), _first()), end), **parameters})


def _first() -> datetime:
    """Return the start of the first whole day that a fill covers."""
    return _today() - timedelta(days=DAYS - 1)


def _range(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": start.isoformat(), "to": end.isoformat()}


def _today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
