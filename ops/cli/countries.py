"""Rebuild the registry of countries: register the most frequent countries and rebuild their rollups.

    count unregistered countries in all rows -> count the quarter-hours that changed since, until few are left
        -> lock the registry -> count the last changed quarter-hours -> update registry -> update rollups -> commit

Invariant: a registered country has its own rollups for all kept days, and an unregistered one has none. Collectors read
the registry in the transaction that writes rollups, so they wait only while the registry is locked.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import asyncpg

from core.errors import SluiceError
from core.postgres import Connection
from sql import statements

PLACES: Final = 1_000  # in addition to the reserved ones; the same as in sql/countries.sql and sql/store.sql
MIN_FREE: Final = 200  # free places after a rebuild
MAX_ROUNDS: Final = 5
FEW_QUARTER_HOURS: Final = 8
MAX_LOCK_TRIES: Final = 30
COUNT_TIMEOUT_SECONDS: Final = 86_400.0
_SQL: Final = statements("countries")
_COUNT_CHANGED: Final = _SQL["count_changed"].format(rows=statements("sources")["country_rows"])


class Rebuilt(NamedTuple):
    """How many countries were added and removed, and how many places are free."""

    added: int
    removed: int
    free: int


async def free_places(connection: Connection) -> int:
    """Return the number of free places in the registry."""
    free: int = await connection.fetchval(_SQL["free_places"])
    return free


async def preview(connection: Connection) -> Rebuilt:
    """Return what a rebuild would do now, and change nothing."""
    await _count(connection)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        return await _place(connection)
    finally:
        await transaction.rollback()


async def rebuild(connection: Connection) -> Rebuilt:
    """Rebuild the registry and the rollups of countries, as the owner.

    Raises SluiceError if other sessions lock the registry for over a minute. Nothing is changed then.
    """
    await _count(connection)
    for _ in range(MAX_LOCK_TRIES):
        try:
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute(_SQL["lock_registry"])
                await _count_changed(connection)
                rebuilt = await _place(connection)
                await connection.execute(_SQL["count_removed"])
                await connection.execute(_SQL["count_other"])
                await connection.execute(_SQL["count_added"])
                await connection.execute(_SQL["drop_empty_totals"])
                return rebuilt
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(1)
    raise SluiceError("another session locks known_countries, for example a long report: run the command again")


async def _count(connection: Connection) -> None:
    """Count the unregistered countries until few quarter-hours changed during the count."""
    await connection.execute(_SQL["create_count_tables"])
    for _ in range(MAX_ROUNDS):
        async with connection.transaction(isolation="repeatable_read"):
            if await _count_changed(connection) <= FEW_QUARTER_HOURS:
                break


async def _count_changed(connection: Connection) -> int:
    """Count the rows of the quarter-hours that changed since the last count; return how many changed."""
    changed = _rows(await connection.execute(_SQL["find_changed"], timeout=COUNT_TIMEOUT_SECONDS))
    await connection.execute(_SQL["delete_changed_counts"])
    await connection.execute(_COUNT_CHANGED, timeout=COUNT_TIMEOUT_SECONDS)
    await connection.execute(_SQL["clear_changed"])
    return changed


async def _place(connection: Connection) -> Rebuilt:
    """Update the registry to the most frequent countries."""
    await connection.execute(_SQL["select_countries"])
    removed = _rows(await connection.execute(_SQL["remove_countries"]))
    added = _rows(await connection.execute(_SQL["add_countries"]))
    return Rebuilt(added, removed, await free_places(connection))


def _rows(status: str) -> int:
    """Return the number of rows in a status such as `DELETE 5`."""
    return int(status.rpartition(" ")[2])
