"""Rebuild the registry of countries: the most frequent get its places, and the rollups of the kept days follow.

    rows --count countries without a place--> changed quarter-hours again --until few are left-->
        lock the registry -> the last changed quarter-hours -> places -> rollups -> commit

Invariant: at every moment a country with a place has rollups of its own for all kept days, and one without a place has
none. Collectors read the registry in the transaction that writes rollups, so they wait only while it is locked.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import asyncpg

from core.errors import SluiceError
from core.postgres import Connection
from sql import statements

PLACES: Final = 1_000  # beside the reserved ones; as in sql/countries.sql and sql/store.sql
MIN_FREE: Final = 200  # as a rebuild leaves them
MAX_ROUNDS: Final = 5
FEW_QUARTER_HOURS: Final = 8
MAX_LOCK_TRIES: Final = 30
COUNT_TIMEOUT_SECONDS: Final = 86_400.0
_SQL: Final = statements("countries")
_COUNT_CHANGED: Final = _SQL["count_changed"].format(rows=statements("sources")["country_rows"])


class Rebuilt(NamedTuple):
    """How many countries got a place, how many lost theirs, and how many places are free."""

    added: int
    removed: int
    free: int


async def free_places(connection: Connection) -> int:
    """How many more countries the registry takes."""
    free: int = await connection.fetchval(_SQL["free_places"])
    return free


async def look(connection: Connection) -> Rebuilt:
    """What a rebuild would do by now. Nothing is changed."""
    await _count(connection)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        return await _place(connection)
    finally:
        await transaction.rollback()


async def rebuild(connection: Connection) -> Rebuilt:
    """Rebuild the registry and the rollups of countries, as the owner.

    Raises SluiceError if other sessions hold the registry for a minute and more: nothing is changed then.
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
    raise SluiceError("known_countries is held by another session, a long report for instance: try again")


async def _count(connection: Connection) -> None:
    """Count the countries without a place, until few quarter-hours have changed meanwhile."""
    await connection.execute(_SQL["create_count_tables"])
    for _ in range(MAX_ROUNDS):
        async with connection.transaction(isolation="repeatable_read"):
            if await _count_changed(connection) <= FEW_QUARTER_HOURS:
                break


async def _count_changed(connection: Connection) -> int:
    """Count the rows of the quarter-hours that changed since they were counted; how many those are."""
    changed = _rows(await connection.execute(_SQL["find_changed"], timeout=COUNT_TIMEOUT_SECONDS))
    await connection.execute(_SQL["delete_changed_counts"])
    await connection.execute(_COUNT_CHANGED, timeout=COUNT_TIMEOUT_SECONDS)
    await connection.execute(_SQL["clear_changed"])
    return changed


async def _place(connection: Connection) -> Rebuilt:
    """Give the places of the registry anew."""
    await connection.execute(_SQL["select_countries"])
    removed = _rows(await connection.execute(_SQL["remove_countries"]))
    added = _rows(await connection.execute(_SQL["add_countries"]))
    return Rebuilt(added, removed, await free_places(connection))


def _rows(status: str) -> int:
    """The number of rows in a command's status, such as `DELETE 5`."""
    return int(status.rpartition(" ")[2])
