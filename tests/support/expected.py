"""What the tables have to hold of events: said once more, by hand, for the oracle to compare with.

    event --key_of--> what makes it the same as another    --columns_of--> its row    --Rollups.count--> its counts

Nothing here is taken from the code that stores events.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import asyncpg
import orjson

from core.postgres import Connection

_ENVELOPE = {"event_id": "eventId", "event_time": "timestamp", "funnel_stage": "funnelStage", "event_type": "eventType"}
_USER = {
    "facebook": {
        "user_id": "data.user.userId",
        "user_name": "data.user.name",
        "age": "data.user.age",
        "gender": "data.user.gender",
        "country": "data.user.location.country",
        "city": "data.user.location.city",
    },
    "tiktok": {"user_id": "data.user.userId", "username": "data.user.username", "followers": "data.user.followers"},
}
_ENGAGEMENT = {
    ("facebook", "top"): {"action_time": "actionTime", "referrer": "referrer", "video_id": "videoId"},
    ("facebook", "bottom"): {
        "ad_id": "adId",
        "campaign_id": "campaignId",
        "click_position": "clickPosition",
        "device": "device",
        "browser": "browser",
        "purchase_amount": "purchaseAmount",
    },
    ("tiktok", "top"): {
        "watch_time": "watchTime",
        "percentage_watched": "percentageWatched",
        "device": "device",
        "country": "country",
        "video_id": "videoId",
    },
    ("tiktok", "bottom"): {
        "action_time": "actionTime",
        "profile_id": "profileId",
        "purchased_item": "purchasedItem",
        "purchase_amount": "purchaseAmount",
    },
}
SOURCES = ("facebook", "tiktok")
STAGES = ("top", "bottom")
# Every column that an event's own values go to; those that its stage does not have are NULL.
COLUMNS = {
    source: tuple(
        dict.fromkeys([*_ENVELOPE, *_USER[source], *_ENGAGEMENT[source, "top"], *_ENGAGEMENT[source, "bottom"]])
    )
    for source in SOURCES
}
_PATHS = {
    (source, stage): [
        tuple(path.split(".")) if path else None
        for paths in [
            {
                **_ENVELOPE,
                **_USER[source],
                **{column: f"data.engagement.{key}" for column, key in _ENGAGEMENT[source, stage].items()},
            }
        ]
        for path in map(paths.get, COLUMNS[source])
    ]
    for source in SOURCES
    for stage in STAGES
}
_CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "timestamp": datetime.fromisoformat,
    "actionTime": datetime.fromisoformat,
    "purchaseAmount": Decimal,
}
_instant = cache(datetime.fromisoformat)  # a few thousand different ones
_QUARTER_HOUR = timedelta(minutes=15)


class Key(NamedTuple):
    """What makes two events the same."""

    source: str
    event_id: str
    at: datetime


def key_of(event: dict[str, Any]) -> Key:
    """What makes the event the same as another one."""
    return Key(event["source"], event["eventId"], _instant(event["timestamp"]))


def columns_of(event: dict[str, Any]) -> tuple[Any, ...]:
    """What a row of this event has to hold, in the order of COLUMNS."""
    found = []
    for path in _PATHS[event["source"], event["funnelStage"]]:
        value: Any = None
        if path:
            value = event
            for name in path:
                value = value[name]
            if value is not None and (convert := _CONVERSIONS.get(path[-1])):
                value = convert(value)
        found.append(value)
    return tuple(found)


def is_event(raw: bytes) -> bool:
    """Whether it could be stored at all: it has a key, and columns for its stage."""
    try:
        event = orjson.loads(raw)
        key_of(event)
        columns_of(event)
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return False
    return True


class Rollups:
    """What the rollups of the rows have to be."""

    def __init__(self) -> None:
        self._events: Counter[tuple[Any, ...]] = Counter()
        self._revenue: defaultdict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
        self._audience: Counter[tuple[Any, ...]] = Counter()  # country: every text, known or not

    def count(self, source: str, row: asyncpg.Record) -> None:
        """Count one row."""
        at = row["event_time"]
        bucket = at - (at - datetime.min.replace(tzinfo=at.tzinfo)) % _QUARTER_HOUR
        kind = (bucket, source, row["funnel_stage"], row["event_type"])
        self._events[kind] += 1
        if row["event_type"] in ("checkout.complete", "purchase"):
            self._revenue[kind] += row["purchase_amount"] or 0
        for dimension, value in _AUDIENCES[source](row):
            self._audience[bucket, source, dimension, value] += 1

    async def differences(self, connection: Connection) -> list[str]:
        """Where the rollups of the database say something else."""
        counted = await connection.fetch(
            "SELECT bucket, source, funnel_stage, event_type, sum(events)::int AS events, sum(revenue) AS revenue "
            "FROM event_counts GROUP BY 1, 2, 3, 4"
        )
        audience = await connection.fetch(
            "SELECT bucket, source, dimension, value, sum(events)::int AS events FROM audience_counts "
            "GROUP BY 1, 2, 3, 4"
        )
        known = {row["country"] for row in await connection.fetch("SELECT country FROM known_countries")}
        expected: Counter[tuple[Any, ...]] = Counter()
        for (bucket, source, dimension, value), events in self._audience.items():
            other = dimension == "country" and value not in known
            expected[bucket, source, dimension, None if other else value] += events
        return [
            *_differences("events", self._events, {tuple(row)[:4]: row["events"] for row in counted}),
            *_differences("revenue", self._revenue, {tuple(row)[:4]: row["revenue"] for row in counted}),
            *_differences("audience", expected, {tuple(row)[:4]: row["events"] for row in audience}),
        ]


def _differences(what: str, rows: dict[Any, Any], rollups: dict[Any, Any]) -> list[str]:
    return [
        f"{what} of {key}: {rows.get(key, 0)} by the rows, {rollups.get(key, 0)} by the rollups"
        for key in rows.keys() | rollups.keys()
        if rows.get(key, 0) != rollups.get(key, 0)
    ]


def _facebook_audience(row: asyncpg.Record) -> Iterable[tuple[str, str]]:
    yield "age", str(row["age"]) if row["age"] < 120 else "120+"
    yield "gender", row["gender"]
    yield "country", row["country"]


def _tiktok_audience(row: asyncpg.Record) -> Iterable[tuple[str, str]]:
    bands = {1_000: "0-999", 10_000: "1000-9999", 100_000: "10000-99999", 1_000_000: "100000-999999"}
    yield "followers", next((band for most, band in bands.items() if row["followers"] < most), "1000000+")
    if row["funnel_stage"] == "top":
        yield "device", row["device"]
        yield "country", row["country"]


_AUDIENCES = {"facebook": _facebook_audience, "tiktok": _tiktok_audience}
