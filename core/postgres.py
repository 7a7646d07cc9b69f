"""PostgreSQL: waiting for it, the settings of our sessions, and migrating its schema.

Migrations are the files `sql/migrations/NNNN_<name>.sql`, applied in order, forward only, each in a transaction of
its own, under one advisory lock. A file that was applied may not change: its checksum is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from core.backoff import backoff
from core.errors import Misconfigured
from core.pg_errors import is_transient
from sql import MIGRATIONS, statements

_SQL = statements("migrations")
_SESSION = statements("session")
log = structlog.get_logger()

# What only an operator mends.
REJECTED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)

SESSION: Final = {
    "synchronous_commit": "on",  # a receipt that is confirmed to JetStream is on disk
    "default_transaction_isolation": "read committed",  # a statement sees what was committed while it waited for a lock
    "search_path": "public",  # migrations name no schema
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    # Our own limits end what takes too long: a migration or a check of the ledger may take longer than a role's limit.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
"""The settings that our promises need, for each of our sessions. default_transaction_read_only is not one of them: an
operator freezes a database by it, and writers wait."""
_OF_WRITERS: Final = {"session_replication_role": "origin"}  # only a superuser may set it; replica skips triggers

POOLED: Final = (
    "the DSN leads to a connection pooler in transaction mode (PgBouncer: pool_mode = transaction), and Sluice needs "
    "sessions of its own: use a DSN of PostgreSQL itself, or a pool with pool_mode = session"
)
_PROBES: Final = 10  # how often two sessions are compared: other clients of the pooler may hold one's backend meanwhile

CONNECT_SECONDS: Final = 5.0  # and for each statement that prepares a session
# A service that starts waits for its database: they are often started together, and in any order.
START_PATIENCE_SECONDS = 3600.0
LOCKED_PAUSE_SECONDS = 1.0


Connection: TypeAlias = "asyncpg.Connection[Any]"
AnyConnection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"
"""A connection, or one that a pool has lent."""


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
) -> Connection:
    """Connect, and wait for a server that is still starting.

    `name` is what pg_stat_activity shows. A command without an answer for `command_seconds` raises TimeoutError: of a
    server that vanished without a word nothing else is heard.

    Raises the last error when patience ends, and at once Misconfigured where waiting does not mend it (a wrong
    password, an unknown database, a DSN that is none, a session that cannot have the settings of SESSION).
    """
    deadline = asyncio.get_running_loop().time() + patience_seconds
    pauses = backoff(0.05, 1.0)
    while True:
        try:
            return await _connect(dsn, name, command_seconds)
        except REJECTED as error:
            raise Misconfigured(f"PostgreSQL cannot be used as {name}: {error}") from error
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise Misconfigured(f"{name}: {POOLED}") from error
        except Exception as error:
            pause = next(pauses)
            if not is_transient(error) or asyncio.get_running_loop().time() + pause > deadline:
                raise
            log.debug("waiting for PostgreSQL", error=repr(error))
        await asyncio.sleep(pause)


async def _connect(dsn: str, name: str, command_seconds: float | None) -> Connection:
    # Only what poolers let through: settings come after.
    connection = await asyncpg.connect(
        dsn, server_settings={"application_name": name}, timeout=CONNECT_SECONDS, command_timeout=command_seconds
    )
    try:
        if await _backend(connection) != connection.get_server_pid():
            await _reject_shared_backends(dsn, name, connection)
        await set_session(connection, SESSION, _OF_WRITERS)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _backend(connection: Connection) -> int:
    pid: int = await connection.fetchval(_SESSION["backend"], timeout=CONNECT_SECONDS)
    return pid


async def _reject_shared_backends(dsn: str, name: str, connection: Connection) -> None:
    """A pooler answers instead of PostgreSQL. Raises Misconfigured unless each session keeps a backend of its own."""
    other = await asyncpg.connect(dsn, server_settings={"application_name": name}, timeout=CONNECT_SECONDS)
    pairs: set[tuple[int, int]] = set()
    try:
        for _ in range(_PROBES):
            pairs.add((await _backend(connection), await _backend(other)))
            if len(pairs) > 1 or any(mine == theirs for mine, theirs in pairs):
                raise Misconfigured(f"{name}: {POOLED}")
    finally:
        other.terminate()


async def set_session(
    connection: Connection,
    wanted: Mapping[str, str],
    required: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Set what is wanted in this session, and check that it holds and that what is required is so.

    Raises Misconfigured.
    """
    names, values = list(wanted), list(wanted.values())
    rows = await connection.fetch(_SESSION["set"], names, values, timeout=CONNECT_SECONDS)
    expected = {**{row["name"]: row["value"] for row in rows}, **required}
    for name, value in await connection.fetch(_SESSION["held"], list(expected), timeout=CONNECT_SECONDS):
        if value != expected[name]:
            raise Misconfigured(
                f"PostgreSQL: {name} is {value} in our session and must be {expected[name]}: reset it where it is "
                f"set (ALTER ROLE … RESET {name}, ALTER DATABASE … RESET {name}, or a pooler)"
            )


async def end(connection: Connection) -> None:
    """Close a connection in any state. The server is asked to cancel what it still does, for at most 2 s: a session
    that works on what was sent to it keeps its locks."""
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
        connection.terminate()


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


async def _apply(connection: Connection, migration: Migration) -> None:
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
    """Wait until the schema has the version of this program, or until a stop."""
    wanted = migrations()[-1].version
    while not stop.is_set():
        connection = await connect(dsn, name="sluice-wait", patience_seconds=START_PATIENCE_SECONDS)
        try:
            if (
                await connection.fetchval(_SQL["journal_exists"])
                and await connection.fetchval(_SQL["version"]) >= wanted
            ):
                return
        except Exception as error:
            if not is_transient(error):
                raise
            log.debug("waiting for PostgreSQL", error=repr(error))
        finally:
            connection.terminate()
        log.info("waiting for the schema", version=wanted)
        await asyncio.sleep(1)


async def prepare_schema(dsn: str, migrate_dsn: str | None, stop: asyncio.Event) -> None:
    """Migrate if there is the owner's DSN; then wait until the service's own role finds the schema."""
    if migrate_dsn:
        await migrate(migrate_dsn)
    await wait_for_schema(dsn, stop)
