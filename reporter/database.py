"""Connections to PostgreSQL, and one snapshot of the database for each report.

    only rollups                       one statement: freshness and rollups
    rows, or more than one statement   lock --> snapshot: freshness and partition floors --> rollups --> rows --> end

Invariant: all figures of a report come from one snapshot: of one statement, or of one REPEATABLE READ, READ ONLY
transaction. Freshness comes from the same snapshot, so it never claims more than the figures hold. The transaction
locks the partitioned tables before it takes its snapshot, so no partition is dropped before it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from core import pg_hosts
from core.health import Readiness
from core.pg_errors import may_read_again, unknown_trace
from core.postgres import SESSION, Connection, migrations, set_session
from core.sources import SOURCES, SourceName
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot
from sql import statements

Pool = asyncpg.Pool
Result = TypeVar("Result")
log = structlog.get_logger()

SQL: Final = statements("report_snapshot")

# Maximum wait for a free connection, and extra wait after the server's own statement time-out.
DATABASE_TIMEOUT_SECONDS: Final = 2.0


_CONNECT: Final[Any] = pg_hosts.connect  # asyncpg-stubs require each of asyncpg's own parameters


async def open_pool(settings: ReporterSettings) -> Pool:
    """Open a pool of read-only connections, with a statement time-out on the server."""
    session = {
        **SESSION,
        "default_transaction_read_only": "on",
        "statement_timeout": str(
            max(1, round(settings.reporter_statement_timeout_seconds * 1000))
        ),  # 0 would mean none
        # Every query reads rollups by ranges of their keys, so one generic plan fits. For rows see `plan_rows`.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
    }

    async def prepare(connection: Connection) -> None:
        await set_session(connection, session)

    return await asyncpg.create_pool(
        settings.reporter_dsn,
        connect=_CONNECT,
        min_size=1,
        max_size=settings.reporter_connections,
        timeout=5,
        command_timeout=settings.reporter_statement_timeout_seconds + DATABASE_TIMEOUT_SECONDS,
        server_settings={"application_name": "sluice-reporter"},
        init=prepare,
        reset=_no_reset,
    )


async def _no_reset(_connection: Connection) -> None:
    """Skip asyncpg's reset: transactions end with their block, and all settings in them are local."""


async def retry_once(read: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of `read`, and call it a second time if the first call failed for a passing reason.

    Such a reason is a conflict with recovery on a standby, a deadlock or a lock. The second call has a new snapshot.
    """
    try:
        return await read()
    except Exception as error:
        if not may_read_again(error):
            raise
        log.debug("report read retried", error=repr(error))
    return await read()


async def check_readiness(pool: Pool, readiness: Readiness) -> None:
    """Set readiness: whether PostgreSQL answers within DATABASE_TIMEOUT_SECONDS and has this program's schema."""
    needed = migrations()[-1].version
    query = asyncio.ensure_future(pool.fetchval(SQL["schema_version"]))
    # Not wait_for: asyncpg ends a query only after the server answers its cancellation. A frozen server never does.
    await asyncio.wait([query], timeout=DATABASE_TIMEOUT_SECONDS)
    if not query.done():
        query.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        query.cancel()
        readiness.set_not_ready(
            "postgres",
            f"no answer within {DATABASE_TIMEOUT_SECONDS:g} s: the server is down, or all connections are busy",
        )
        return
    try:
        version = query.result()
    except Exception as error:
        readiness.set_not_ready("postgres", str(error) or repr(error))
        log.debug("not ready", error=repr(error), **unknown_trace(error))
        return
    readiness.set_ready("postgres")
    if version >= needed:
        readiness.set_ready("schema")
    else:
        readiness.set_not_ready("schema", f"version {version}, this program needs {needed}")


@asynccontextmanager
async def open_snapshot(pool: Pool, sources: Sequence[SourceName]) -> AsyncIterator[Snapshot]:
    """Open a transaction; everything read in the block is of one snapshot."""
    async with (
        pool.acquire(timeout=DATABASE_TIMEOUT_SECONDS) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(";\n".join(SQL["lock"].format(table=SOURCES[source].table) for source in sources))
        yield Snapshot(connection, sources, await connection.fetch(SQL["watermarks"], sources))


@asynccontextmanager
async def open_single_statement(pool: Pool, sources: Sequence[SourceName]) -> AsyncIterator[Snapshot]:
    """Open a connection for a report that is one statement on rollups; a statement is one snapshot by itself."""
    async with pool.acquire(timeout=DATABASE_TIMEOUT_SECONDS) as connection:
        yield Snapshot(connection, sources)
