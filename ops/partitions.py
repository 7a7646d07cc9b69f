"""Daily partitions by hand: list them, make those ahead, drop old ones. Collectors do the same by themselves.
An index that is newer than a partition is built here alone, for it takes the owner of the table.

Invariant: a day that is dropped can never come back (its floor is raised in the same step), so nothing is dropped that
an event could still be accepted for.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from core.errors import SluiceError
from core.settings import OperatorSettings
from sql import statements

TABLES: Final = ("facebook_events", "tiktok_events")
MARGIN_DAYS: Final = 4  # as collectors keep it (RETENTION_DAYS)
INDEX_TIMEOUT_SECONDS: Final = 86_400.0
_SQL: Final = statements("partitions")
_TODAY: Final = statements("maintenance")["today"]


class Partition(NamedTuple):
    """One day (UTC) of one table. rows is the planner's estimate; -1 where it has none yet."""

    table: str
    day: date
    rows: int
    bytes: int


async def read(connection: asyncpg.Connection[Any]) -> list[Partition]:
    """All partitions, oldest first."""
    found = [Partition(table, *row) for table in TABLES for row in await connection.fetch(_SQL["sizes"], table)]
    return sorted(found, key=lambda partition: (partition.day, partition.table))


async def missing(connection: asyncpg.Connection[Any], days: int) -> list[tuple[str, date]]:
    """The partitions that are wanted and not there, from yesterday to so many days ahead."""
    today = await connection.fetchval(_TODAY)
    wanted = {today + timedelta(days=offset) for offset in range(-1, days + 1)}
    found = []
    for table in TABLES:
        made = {row["day"] for row in await connection.fetch(_SQL["days"], table)}
        found += [(table, day) for day in sorted(wanted - made)]
    return found


async def ensure(connection: asyncpg.Connection[Any], wanted: list[tuple[str, date]]) -> None:
    """Make these. Raises SluiceError where the table is held by somebody for more than 2 s."""
    for table, day in wanted:
        try:
            await connection.fetchval(_SQL["ensure"], table, day)
        except asyncpg.LockNotAvailableError:
            raise SluiceError(f"{table} is held by another session: try again") from None


async def without_index(connection: asyncpg.Connection[Any]) -> list[str]:
    """The names of the partitions that lack the index on campaigns, newest first: those older than the index."""
    return [row["partition"] for row in await connection.fetch(_SQL["without_index"])]


async def index(connection: asyncpg.Connection[Any], partition: str) -> None:
    """Build the index on campaigns of one partition while it is written and read; safe to interrupt and repeat.

    Raises SluiceError if another session drops the partition.
    """
    try:
        await connection.execute(_SQL["drop_index"].format(partition=partition))
        await connection.execute(_SQL["create_index"].format(partition=partition), timeout=INDEX_TIMEOUT_SECONDS)
        await connection.execute(_SQL["attach_index"].format(partition=partition))
    except asyncpg.UndefinedTableError:
        raise SluiceError(f"{partition} was dropped meanwhile: run the command again") from None


async def old(connection: asyncpg.Connection[Any], days: int, chosen: OperatorSettings) -> tuple[date, list[Partition]]:
    """The new floor when all older than so many days are dropped, and those it would cost. Raises SluiceError."""
    least = chosen.max_event_age_days + MARGIN_DAYS
    if days < least:
        raise SluiceError(
            f"--older-than {days}: at least {least}, or events could still be accepted for a dropped day "
            f"(MAX_EVENT_AGE_DAYS is {chosen.max_event_age_days})"
        )
    floor = await connection.fetchval(_TODAY) - timedelta(days=days)
    return floor, [partition for partition in await read(connection) if partition.day < floor]


async def drop(connection: asyncpg.Connection[Any], floor: date) -> int:
    """Drop all partitions of days before `floor`, for good; how many. Raises SluiceError where one is being read."""
    dropped = 0
    for table in TABLES:
        try:
            dropped += await connection.fetchval(_SQL["drop_before"], table, floor)
        except asyncpg.LockNotAvailableError:
            raise SluiceError(f"{table} is being read by a report: try again ({dropped} dropped so far)") from None
    return dropped
