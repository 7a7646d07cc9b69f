"""Daily partitions by hand: list them, make those ahead, drop old ones. Collectors do the same by themselves.
An index that is newer than a partition is built here alone, for it takes the owner of the table.

Invariant: a day that is dropped can never come back (its floor is raised in the same step), so nothing is dropped that
an event could still be accepted for.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, NamedTuple

import asyncpg

from collector.settings import RETENTION_MARGIN_DAYS
from core.errors import SluiceError
from core.postgres import Connection
from core.sources import SOURCES
from ops.settings import OperatorSettings
from sql import statements

TABLES: Final = tuple(source.table for source in SOURCES.values())
INDEX_TIMEOUT_SECONDS: Final = 86_400.0
_SQL: Final = statements("partitions")
_TODAY: Final = statements("maintenance")["today"]


class Partition(NamedTuple):
    """One day (UTC) of one table. rows is the planner's estimate; -1 where it has none yet.

    Where it is not attached, a table has the partition's name and is none: its rows are in no report.
    """

    table: str
    day: date
    rows: int
    bytes: int
    attached: bool


class Missing(NamedTuple):
    """A day that has no partition. detached: a table has its name."""

    table: str
    day: date
    detached: bool


class Change(NamedTuple):
    """What became of one day. done: made, attached, existed (another session was faster) or dropped; or the error."""

    table: str
    day: date
    done: str
    error: str | None = None


async def read(connection: Connection) -> list[Partition]:
    """All tables of days, oldest first."""
    found = [Partition(table, *row) for table in TABLES for row in await connection.fetch(_SQL["tables"], table)]
    return sorted(found, key=lambda partition: (partition.day, partition.table))


async def missing(connection: Connection, days: int) -> list[Missing]:
    """The days without a partition, from yesterday to so many days ahead, and all whose table is detached."""
    today = await connection.fetchval(_TODAY)
    wanted = {today + timedelta(days=offset) for offset in range(-1, days + 1)}
    tables = await read(connection)
    found = [Missing(one.table, one.day, detached=True) for one in tables if not one.attached]
    for table in TABLES:
        there = {one.day for one in tables if one.table == table}
        found += [Missing(table, day, detached=False) for day in sorted(wanted - there)]
    return found


async def ensure(connection: Connection, wanted: list[Missing]) -> list[Change]:
    """Make or attach these, each by itself. Raises SluiceError where a session holds the table for more than 2 s."""
    changes = []
    for table, day, _ in wanted:
        try:
            changes.append(Change(table, day, await connection.fetchval(_SQL["ensure"], table, day)))
        except asyncpg.LockNotAvailableError:
            raise SluiceError(f"{table} is held by another session: try again") from None
        except (asyncpg.OperatorInterventionError, asyncpg.CheckViolationError) as error:
            changes.append(Change(table, day, "left as it is", f"{error} ({error.hint})" if error.hint else str(error)))
    return changes


async def without_index(connection: Connection) -> list[asyncpg.Record]:
    """What each partition lacks of its table's indexes, newest first: partition, parent, index, definition."""
    return await connection.fetch(_SQL["without_index"], TABLES)


async def index(connection: Connection, lacking: asyncpg.Record) -> None:
    """Build one index of one partition while it is written and read; safe to interrupt and repeat.

    Raises SluiceError if another session drops the partition.
    """
    try:
        await connection.execute(_SQL["drop_index"].format(**lacking))
        await connection.execute(_SQL["create_index"].format(**lacking), timeout=INDEX_TIMEOUT_SECONDS)
        await connection.execute(_SQL["attach_index"].format(**lacking))
    except asyncpg.UndefinedTableError:
        raise SluiceError(f"{lacking['partition']} was dropped meanwhile: run the command again") from None


async def old(connection: Connection, days: int, settings: OperatorSettings) -> tuple[date, list[Partition]]:
    """The new floor when all older than so many days are dropped, and those it would cost. Raises SluiceError."""
    least = settings.max_event_age_days + RETENTION_MARGIN_DAYS
    if days < least:
        raise SluiceError(
            f"--older-than {days}: at least {least}, or events could still be accepted for a dropped day "
            f"(MAX_EVENT_AGE_DAYS is {settings.max_event_age_days})"
        )
    floor = await connection.fetchval(_TODAY) - timedelta(days=days)
    return floor, [one for one in await read(connection) if one.day < floor and one.attached]


async def drop(connection: Connection, floor: date) -> list[Change]:
    """Drop all partitions of days before `floor`, for good. Raises SluiceError where one is being read."""
    changes: list[Change] = []
    for table in TABLES:
        try:
            rows = await connection.fetch(_SQL["drop_before"], table, floor)
        except asyncpg.LockNotAvailableError:
            dropped = sum(change.error is None for change in changes)
            raise SluiceError(f"{table} is being read by a report: try again ({dropped} dropped so far)") from None
        changes += [Change(table, day, "left as it is" if error else "dropped", error) for day, error in rows]
    return changes
