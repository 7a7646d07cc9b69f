"""PostgreSQL: waiting for it, migrating its schema, and telling apart what an error asks of us.

Migrations are the files `sql/migrations/NNNN_<name>.sql`, applied in order, forward only, each in a transaction of
its own, under one advisory lock. A file that was applied may not change: its checksum is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, NamedTuple

import asyncpg
import structlog

from core.errors import Misconfigured
from sql import MIGRATIONS, statements

_SQL = statements("migrations")
log = structlog.get_logger()

# What a server says, or does not say, while it starts, restarts or is out of reach.
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.ConnectionDoesNotExistError,
)

# What only an operator mends.
REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)

# A service that starts waits for its database: they are often started together, and in any order.
START_PATIENCE_SECONDS = 3600.0
LOCKED_PAUSE_SECONDS = 1.0


class Migration(NamedTuple):
    version: int
    name: str
    sha256: str
    text: str


def migrations() -> list[Migration]:
    """The migrations that this program carries, in order."""
    found = []
    for path in sorted(MIGRATIONS.glob("[0-9]*.sql")):
        text = path.read_text(encoding="utf-8")
        number, _, name = path.stem.partition("_")
        found.append(Migration(int(number), name, hashlib.sha256(text.encode()).hexdigest(), text))
    return found


async def connect(
    dsn: str, *, name: str, patience_seconds: float = 60.0, command_seconds: float | None = None
) -> asyncpg.Connection[Any]:
    """Connect, and wait for a server that is still starting.

    `name` is what pg_stat_activity shows. A command without an answer for `command_seconds` raises TimeoutError: of a
    server that vanished without a word nothing else is heard.

    Raises the last error when patience ends, and at once Misconfigured where waiting does not mend it (a wrong
    password, an unknown database, a DSN that is none).
    """
    deadline = asyncio.get_running_loop().time() + patience_seconds
    pause = 0.05
    while True:
        try:
            return await asyncpg.connect(
                dsn,
                server_settings={"application_name": name, "timezone": "UTC"},
                timeout=5,
                command_timeout=command_seconds,
            )
        except UNREACHABLE as error:
            if asyncio.get_running_loop().time() + pause > deadline:
                raise
            log.debug("waiting for PostgreSQL", error=repr(error))
        except REFUSED as error:
            raise Misconfigured(f"PostgreSQL cannot be used as {name}: {error}") from error
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0)


async def migrate(dsn: str) -> int:
    """Bring the schema up to date as its owner; the version reached. The connection is closed at the end.

    Raises Misconfigured where an applied migration has changed or the database is newer than this program.
    """
    connection = await connect(dsn, name="sluice-migrate", patience_seconds=START_PATIENCE_SECONDS)
    try:
        await connection.execute(_SQL["lock"])
        async with connection.transaction():  # whoever waits for the schema must not find a journal it may not read
            await connection.execute(_SQL["journal"])
            await connection.execute(_SQL["journal_readable"])
        applied = {row["version"]: row["sha256"] for row in await connection.fetch(_SQL["applied"])}
        carried = migrations()
        if unknown := set(applied) - {migration.version for migration in carried}:
            raise Misconfigured(
                f"the database holds migration {max(unknown)}, which this program does not know: it is newer"
            )
        for migration in carried:
            if migration.version in applied:
                if applied[migration.version] != migration.sha256:
                    raise Misconfigured(
                        f"migration {migration.version} was changed after it was applied: write a new one"
                    )
                continue
            await _apply(connection, migration)
            log.info("migrated", version=migration.version, migration=migration.name)
        return carried[-1].version
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection[Any], migration: Migration) -> None:
    """Apply a migration in one transaction; retry it while another session holds a lock past its lock_timeout."""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(_SQL["record"], migration.version, migration.name, migration.sha256)
                return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            log.warning("a session holds a lock: retrying the migration", version=migration.version, error=str(error))
        await asyncio.sleep(LOCKED_PAUSE_SECONDS)


async def wait_for_schema(dsn: str, stop: asyncio.Event) -> None:
    """Wait until somebody else has brought the schema to the version of this program, or until a stop."""
    wanted = migrations()[-1].version
    while not stop.is_set():
        connection = await connect(dsn, name="sluice-wait", patience_seconds=START_PATIENCE_SECONDS)
        try:
            if (
                await connection.fetchval(_SQL["journal_exists"])
                and await connection.fetchval(_SQL["version"]) >= wanted
            ):
                return
        finally:
            await connection.close()
        log.info("waiting for the schema", version=wanted)
        await asyncio.sleep(1)


async def prepare_schema(dsn: str, migrate_dsn: str | None, stop: asyncio.Event) -> None:
    """Migrate where we hold the owner's DSN, else wait until it is done."""
    if migrate_dsn:
        await migrate(migrate_dsn)
    else:
        await wait_for_schema(dsn, stop)
