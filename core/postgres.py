"""PostgreSQL: connect, set up sessions, and migrate the schema.

Migrations are the files `sql/migrations/NNNN_<name>.sql`. They are applied in order, forward only, each in its own
transaction, under one advisory lock. An applied file must not change: its checksum is stored.
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

from core import pg_hosts
from core.backoff import backoff
from core.errors import Misconfigured
from core.pg_errors import is_transient
from sql import MIGRATIONS, statements

_SQL = statements("migrations")
_SESSION = statements("session")
log = structlog.get_logger()

# Errors that only an operator can fix.
LOGIN_ERRORS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)

SESSION: Final = {
    "synchronous_commit": "on",  # an acknowledged receipt is on disk
    "default_transaction_isolation": "read committed",  # a statement sees rows committed while it waited for a lock
    "search_path": "public",  # migrations name no schema
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    # Sluice has its own time-outs: a migration or a check of the ledger may take longer than a role's limit.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
"""Session settings that the promises need. default_transaction_read_only is not included: an operator freezes a
database with it, and writers wait."""
_WRITER_SESSION: Final = {"session_replication_role": "origin"}  # only a superuser may set it; replica skips triggers

POOLER_FOUND: Final = (
    "the DSN points to a connection pooler in transaction mode (PgBouncer: pool_mode = transaction); Sluice needs "
    "its own sessions: use a DSN of PostgreSQL itself, or a pool with pool_mode = session"
)
_PROBES: Final = 10  # comparisons of two sessions: other clients of the pooler may hold one backend meanwhile

CONNECT_SECONDS: Final = 5.0  # also for each statement that prepares a session
# A starting service waits for its database: both are often started together, in any order.
START_PATIENCE_SECONDS = 3600.0
LOCKED_PAUSE_SECONDS = 1.0


Connection: TypeAlias = "asyncpg.Connection[Any]"
AnyConnection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"
"""A connection, or one borrowed from a pool."""


class Migration(NamedTuple):
    version: int
    name: str
    sha256: str
    text: str


def migrations() -> list[Migration]:
    """Return the migrations of this version, in order."""
    loaded = []
    for path in sorted(MIGRATIONS.glob("[0-9]*.sql")):
        text = path.read_text(encoding="utf-8")
        number, _, name = path.stem.partition("_")
        loaded.append(Migration(int(number), name, hashlib.sha256(text.encode()).hexdigest(), text))
    return loaded


async def connect(
    dsn: str,
    *,
    name: str,
    patience_seconds: float = 60.0,
    command_seconds: float | None = None,
    accept: pg_hosts.Accept | None = None,
) -> Connection:
    """Connect, and wait for a server that is still starting.

    `name` is shown in pg_stat_activity. A command without a response for `command_seconds` raises TimeoutError, which
    detects a dead peer (a half-open TCP connection). A host for which `accept` raises is skipped.

    Raises the last error after `patience_seconds`. Raises Misconfigured at once if waiting does not help: a wrong
    password, an unknown database, an invalid DSN, or a session that cannot have the settings of SESSION.
    """
    deadline = asyncio.get_running_loop().time() + patience_seconds
    pauses = backoff(0.05, 1.0)
    while True:
        try:
            return await _connect(dsn, name, command_seconds, accept)
        except LOGIN_ERRORS as error:
            raise Misconfigured(f"PostgreSQL cannot be used as {name}: {error}") from error
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
            raise Misconfigured(f"{name}: {POOLER_FOUND}") from error
        except Exception as error:
            pause = next(pauses)
            if not is_transient(error) or asyncio.get_running_loop().time() + pause > deadline:
                raise
            log.debug("waiting for PostgreSQL", error=repr(error))
        await asyncio.sleep(pause)


async def _connect(dsn: str, name: str, command_seconds: float | None, accept: pg_hosts.Accept | None) -> Connection:
    # Only parameters that poolers accept; other settings are set afterwards.
    connection = await pg_hosts.connect(
        dsn,
        server_settings={"application_name": name},
        timeout=CONNECT_SECONDS,
        command_timeout=command_seconds,
        accept=accept,
    )
    try:
        if await _backend(connection) != connection.get_server_pid():
            await _reject_shared_backends(dsn, name, connection)
        await set_session(connection, SESSION, _WRITER_SESSION)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _backend(connection: Connection) -> int:
    pid: int = await connection.fetchval(_SESSION["backend"], timeout=CONNECT_SECONDS)
    return pid


async def _reject_shared_backends(dsn: str, name: str, connection: Connection) -> None:
    """Raise Misconfigured unless each session keeps its own backend: a pooler is between us and PostgreSQL."""
    other = await pg_hosts.connect(dsn, server_settings={"application_name": name}, timeout=CONNECT_SECONDS)
    pairs: set[tuple[int, int]] = set()
    try:
        for _ in range(_PROBES):
            pairs.add((await _backend(connection), await _backend(other)))
            if len(pairs) > 1 or any(mine == theirs for mine, theirs in pairs):
                raise Misconfigured(f"{name}: {POOLER_FOUND}")
    finally:
        other.terminate()


async def set_session(
    connection: Connection,
    wanted: Mapping[str, str],
    required: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Set `wanted` in this session, then check these settings and `required`. Raises Misconfigured."""
    names, values = list(wanted), list(wanted.values())
    rows = await connection.fetch(_SESSION["set"], names, values, timeout=CONNECT_SECONDS)
    expected = {**{row["name"]: row["value"] for row in rows}, **required}
    for name, value in await connection.fetch(_SESSION["held"], list(expected), timeout=CONNECT_SECONDS):
        if value != expected[name]:
            raise Misconfigured(
                f"PostgreSQL: {name} is {value} in the session and must be {expected[name]}: reset it where it is "
                f"set (ALTER ROLE … RESET {name}, ALTER DATABASE … RESET {name}, or a pooler)"
            )


async def close(connection: Connection) -> None:
    """Close a connection in any state.

    Asks the server to cancel a running statement, for at most 2 s: a session that still runs keeps its locks.
    """
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
        connection.terminate()


async def migrate(dsn: str) -> int:
    """Migrate the schema as its owner. Return the version reached.

    Raises Misconfigured if an applied migration was changed or the database is newer than this program.
    """
    connection = await connect(dsn, name="sluice-migrate", patience_seconds=START_PATIENCE_SECONDS)
    try:
        await connection.execute(_SQL["lock"])
        async with (
            connection.transaction()
        ):  # a session that waits for the schema must be able to read the journal when it sees it
            await connection.execute(_SQL["journal"])
            await connection.execute(_SQL["journal_readable"])
        applied = {row["version"]: row["sha256"] for row in await connection.fetch(_SQL["applied"])}
        known = migrations()
        if unknown := set(applied) - {migration.version for migration in known}:
            raise Misconfigured(
                f"the database has migration {max(unknown)}, which this program does not know: the database is newer"
            )
        for migration in known:
            if migration.version in applied:
                if applied[migration.version] != migration.sha256:
                    raise Misconfigured(
                        f"migration {migration.version} was changed after it was applied: add a new migration instead"
                    )
                continue
            await _apply(connection, migration)
            log.info("migration applied", version=migration.version, migration=migration.name)
        return known[-1].version
    finally:
        await connection.close()


async def _apply(connection: Connection, migration: Migration) -> None:
    """Apply a migration in one transaction; retry while another session holds a lock longer than lock_timeout."""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(_SQL["record"], migration.version, migration.name, migration.sha256)
                return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            log.warning("migration waits for a lock", version=migration.version, error=str(error))
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
    """Migrate if the owner's DSN is set; then wait until the service's own role sees the schema."""
    if migrate_dsn:
        await migrate(migrate_dsn)
    await wait_for_schema(dsn, stop)
