"""Judge the rollups: recompute them from the partitions, in ways of our own, and compare.

The statements share nothing with the ones that write the rollups: buckets come from the epoch's seconds, bands from
a list of bounds here. Days below a partition floor are left out: their rows are gone and their rollups stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from core.postgres import Connection

BUCKET = "to_timestamp(floor(extract(epoch FROM event_time) / 900) * 900)"
PURCHASE = {"facebook": "checkout.complete", "tiktok": "purchase"}
COUNTRY = "CASE WHEN country IN (SELECT country FROM known_countries) THEN country END"
BANDS = (0, 1_000, 10_000, 100_000, 1_000_000)
FOLLOWERS = "CASE width_bucket(followers, ARRAY[0, 1000, 10000, 100000, 1000000]) {} END".format(
    " ".join(
        f"WHEN {number} THEN '{low}-{BANDS[number] - 1}'" if number < len(BANDS) else f"WHEN {number} THEN '{low}+'"
        for number, low in enumerate(BANDS, start=1)
    )
)
# Each dimension: how a row's value is reported, and which rows have one.
DIMENSIONS = {
    "facebook": {
        "age": ("CASE WHEN age >= 120 THEN '120+' ELSE age::text END", "true"),
        "gender": ("gender::text", "true"),
        "country": (COUNTRY, "true"),
    },
    "tiktok": {
        "followers": (FOLLOWERS, "true"),
        "device": ("device::text", "funnel_stage = 'top'"),
        "country": (COUNTRY, "funnel_stage = 'top'"),
    },
}


# What the totals of each rollup are by, and where their units begin: the epoch was a Thursday.
TOTALS = {
    "event": ("source, funnel_stage, event_type, shard", "sum(events)::bigint AS events, sum(revenue) AS revenue"),
    "audience": ("source, dimension, value, shard", "sum(events)::bigint AS events"),
}
UNITS = {"hour": (3_600, 0), "day": (86_400, 0), "week": (604_800, 345_600)}


async def rollup_differences(connection: Connection) -> list[str]:
    """Where the rollups differ from the rows of the partitions, a line each; empty where they are equal."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = []
        for source in DIMENSIONS:
            found += await _event_counts(connection, source)
            found += await _audience_counts(connection, source)
        for table, key in TOTALS.items():
            found += await _totals(connection, table, key)
        return found


async def _event_counts(connection: Connection, source: str) -> list[str]:
    rolled_up = await connection.fetch(
        f"SELECT bucket, funnel_stage, event_type, sum(events)::bigint AS events, sum(revenue) AS revenue "
        f"FROM event_counts WHERE source = '{source}' AND {_kept(source)} GROUP BY 1, 2, 3"
    )
    from_rows = await connection.fetch(
        f"SELECT {BUCKET} AS bucket, funnel_stage, event_type, count(*) AS events, "
        f"sum(CASE WHEN event_type = '{PURCHASE[source]}' THEN coalesce(purchase_amount, 0) ELSE 0 END) AS revenue "
        f"FROM {source}_events GROUP BY 1, 2, 3"
    )
    return _differences(f"event_counts of {source}", _keyed(rolled_up, 3), _keyed(from_rows, 3))


async def _audience_counts(connection: Connection, source: str) -> list[str]:
    found = []
    for dimension, (value, having) in DIMENSIONS[source].items():
        rolled_up = await connection.fetch(
            f"SELECT bucket, value, sum(events)::bigint AS events FROM audience_counts "
            f"WHERE source = '{source}' AND dimension = '{dimension}' AND {_kept(source)} GROUP BY 1, 2"
        )
        from_rows = await connection.fetch(
            f"SELECT {BUCKET} AS bucket, {value} AS value, count(*) AS events FROM {source}_events "
            f"WHERE {having} GROUP BY 1, 2"
        )
        found += _differences(f"{dimension} of {source}", _keyed(rolled_up, 2), _keyed(from_rows, 2))
    stray = await connection.fetch(
        "SELECT DISTINCT dimension::text FROM audience_counts WHERE source = $1::text::source "
        "AND dimension::text <> ALL ($2::text[])",
        source,
        list(DIMENSIONS[source]),
    )
    return found + [f"{source} has no {row['dimension']}" for row in stray]


async def _totals(connection: Connection, table: str, said: tuple[str, str]) -> list[str]:
    key, sums = said
    found = []
    for unit, (seconds, shift) in UNITS.items():
        start = f"to_timestamp(floor((extract(epoch FROM bucket) - {shift}) / {seconds}) * {seconds} + {shift})"
        keys = 1 + key.count(",") + 1
        totals = await connection.fetch(
            f"SELECT bucket, {key}, {sums} FROM {table}_totals WHERE unit = '{unit}' GROUP BY bucket, {key}"
        )
        quarters = await connection.fetch(
            f"SELECT {start} AS start, {key}, {sums} FROM {table}_counts GROUP BY start, {key}"
        )
        # A rollup that was taken back leaves a total of nothing.
        left = {key: values for key, values in _keyed(totals, keys).items() if any(values)}
        there = {key: values for key, values in _keyed(quarters, keys).items() if any(values)}
        found += _differences(f"{table}_totals by {unit}", left, there)
    return found


def _kept(source: str) -> str:
    return (
        f"bucket >= (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors WHERE parent = '{source}_events')"
    )


def _keyed(rows: list[asyncpg.Record], keys: int) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    return {tuple(row)[:keys]: tuple(row)[keys:] for row in rows}


def _differences(
    what: str, rolled_up: Mapping[tuple[Any, ...], Any], from_rows: Mapping[tuple[Any, ...], Any]
) -> list[str]:
    return [
        f"{what}, {key}: rollups say {rolled_up.get(key)}, rows {from_rows.get(key)}"
        for key in {**rolled_up, **from_rows}
        if rolled_up.get(key) != from_rows.get(key)
    ]
