"""List, create, index and drop daily partitions.

Collectors create and drop partitions by themselves. Only these commands build an index that is newer than a partition,
because that requires the owner of the table.

Invariant: the gateway accepts no event for a day that is dropped, because dropping a day raises the floor in the same
transaction.
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
    """One day (UTC) of one table. rows is the planner's estimate, -1 if there is none yet.

    attached is False for a table that has the name of a partition but is detached: reports do not include its rows.
    """

    table: str
    day: date
    rows: int
    bytes: int
    attached: bool


class Missing(NamedTuple):
    """A day that has no partition. detached: a detached table has the name of the partition."""

    table: str
    day: date
    detached: bool


class Change(NamedTuple):
    """What happened to one day. done: created, attached, existed (another session was faster), dropped, or unchanged.

    error says why the day is unchanged.
    """

    table: str
    day: date
    done: str
    error: str | None = None


async def read(connection: Connection) -> list[Partition]:
    """Return the tables of all days, oldest first."""
    days = [Partition(table, *row) for table in TABLES for row in await connection.fetch(_SQL["tables"], table)]
    return sorted(days, key=lambda partition: (partition.day, partition.table))


async def missing(connection: Connection, days: int) -> list[Missing]:
    """Return the days without a partition from yesterday to `days` ahead, and all days whose table is detached."""
    today = await connection.fetchval(_TODAY)
    wanted = {today + timedelta(days=offset) for offset in range(-1, days + 1)}
    tables = await read(connection)
    missing_days = [Missing(one.table, one.day, detached=True) for one in tables if not one.attached]
    for table in TABLES:
        existing = {one.day for one in tables if one.table == table}
        missing_days += [Missing(table, day, detached=False) for day in sorted(wanted - existing)]
    return missing_days


async def ensure(connection: Connection, wanted: list[Missing]) -> list[Change]:
    """Create or attach these partitions one by one. Raises SluiceError if a session locks the table for over 2 s."""
    changes = []
    for table, day, _ in wanted:
        try:
            done = await connection.fetchval(_SQL["ensure"], table, day)
            changes.append(Change(table, day, "created" if done == "made" else done))
        except asyncpg.LockNotAvailableError:
            raise SluiceError(f"another session locks {table}: run the command again") from None
        except (asyncpg.OperatorInterventionError, asyncpg.CheckViolationError) as error:
            changes.append(Change(table, day, "unchanged", f"{error} ({error.hint})" if error.hint else str(error)))
    return changes


async def without_index(connection: Connection) -> list[asyncpg.Record]:
    """Return the missing indexes of partitions, newest first: partition, parent, index, definition."""
    return await connection.fetch(_SQL["without_index"], TABLES)


async def index(connection: Connection, lacking: asyncpg.Record) -> None:
    """Build one index of one partition without blocking reads and writes. It is safe to interrupt and repeat.

    Raises SluiceError if another session drops the partition.
    """
    try:
        await connection.execute(_SQL["drop_index"].format(**lacking))
        await connection.execute(_SQL["create_index"].format(**lacking), timeout=INDEX_TIMEOUT_SECONDS)
        await connection.execute(_SQL["attach_index"].format(**lacking))
    except asyncpg.UndefinedTableError:
        raise SluiceError(f"{lacking['partition']} was dropped in the meantime: run the command again") from None


async def old(connection: Connection, days: int, settings: OperatorSettings) -> tuple[date, list[Partition]]:
    """Return the new floor if all days older than `days` are dropped, and these days. Raises SluiceError."""
    min_days = settings.max_event_age_days + RETENTION_MARGIN_DAYS
    if days < min_days:
        raise SluiceError(
            f"--older-than {days} is too small: the gateway still accepts events of these days "
            f"(MAX_EVENT_AGE_DAYS is {settings.max_event_age_days}). Keep at least {min_days} days"
        )
    floor = await connection.fetchval(_TODAY) - timedelta(days=days)
    return floor, [one for one in await read(connection) if one.day < floor and one.attached]


async def drop(connection: Connection, floor: date) -> list[Change]:
    """Drop all partitions of days before `floor` permanently. Raises SluiceError if a report reads one."""
    changes: list[Change] = []
    for table in TABLES:
        try:
            rows = await connection.fetch(_SQL["drop_before"], table, floor)
        except asyncpg.LockNotAvailableError:
            dropped = sum(change.error is None for change in changes)
            raise SluiceError(f"a report reads {table}: run the command again ({dropped} dropped so far)") from None
        changes += [Change(table, day, "unchanged" if error else "dropped", error) for day, error in rows]
    return changes
