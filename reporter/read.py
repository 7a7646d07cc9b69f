"""Read one report from one moment of the database.

    rollups alone       one statement: freshness and rollups
    rows, or several    lock --> snapshot: freshness and partition floors --> rollups --> rows --> end

Invariant: the figures of a report are of one moment: one statement's, or one REPEATABLE READ, READ ONLY transaction's.
Freshness is of that moment too and so never claims what they do not hold. Partitions are locked against being dropped
before the snapshot of the transaction is taken, so the floor that it reads holds to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import asyncpg
import structlog

from core.health import Readiness
from core.pg_errors import may_read_again, unknown_trace
from core.postgres import SESSION, Connection, migrations, set_session
from core.sources import SOURCES, SourceName
from reporter.figures import Snapshot
from reporter.settings import ReporterSettings
from sql import statements

Pool = asyncpg.Pool
Found = TypeVar("Found")
log = structlog.get_logger()

SQL: Final = statements("report_snapshot")

# How long a report waits for a free connection, and how much longer than the server itself we wait for an answer.
PATIENCE_SECONDS: Final = 2.0


async def open_pool(settings: ReporterSettings) -> Pool:
    """Connections that can only read, and that give up where a report would take too long."""
    session = {
        **SESSION,
        "default_transaction_read_only": "on",
        "statement_timeout": str(
            max(1, round(settings.reporter_statement_timeout_seconds * 1000))
        ),  # 0 would mean none
        # Rollups are read by ranges of their keys whatever is asked: planned once. For rows see `plan_rows`.
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
        min_size=1,
        max_size=settings.reporter_connections,
        timeout=5,
        command_timeout=settings.reporter_statement_timeout_seconds + PATIENCE_SECONDS,
        server_settings={"application_name": "sluice-reporter"},
        init=prepare,
        reset=_as_it_is,
    )


async def _as_it_is(_connection: Connection) -> None:
    """Nothing is left behind that would have to be reset: transactions end with their block, and set what is local."""


async def read_again(read: Callable[[], Awaitable[Found]]) -> Found:
    """Return what `read` returns. Call it once more if the server rolled it back or ended its session: a
    conflict with recovery on a standby, a deadlock, a lock. It then reads a new moment of the database."""
    try:
        return await read()
    except Exception as error:
        if not may_read_again(error):
            raise
        log.debug("reading again", error=repr(error))
    return await read()


async def check(pool: Pool, readiness: Readiness) -> None:
    """Note whether PostgreSQL answers and holds the schema of this program, within PATIENCE_SECONDS."""
    wanted = migrations()[-1].version
    asking = asyncio.ensure_future(pool.fetchval(SQL["schema_version"]))
    # Not wait_for: asyncpg ends a query only after the server has answered its cancellation, and a frozen one does not.
    await asyncio.wait([asking], timeout=PATIENCE_SECONDS)
    if not asking.done():
        asking.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        asking.cancel()
        readiness.set_not_ready("postgres", "no answer in time: it is away, or all connections are busy")
        return
    try:
        found = asking.result()
    except Exception as error:
        readiness.set_not_ready("postgres", str(error) or repr(error))
        log.debug("not ready", error=repr(error), **unknown_trace(error))
        return
    readiness.set_ready("postgres")
    if found >= wanted:
        readiness.set_ready("schema")
    else:
        readiness.set_not_ready("schema", f"version {found}, this program needs {wanted}")


@asynccontextmanager
async def snapshot(pool: Pool, sources: Sequence[SourceName]) -> AsyncIterator[Snapshot]:
    """Open one moment of the database; everything read in the block is of that moment."""
    async with (
        pool.acquire(timeout=PATIENCE_SECONDS) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(";\n".join(SQL["lock"].format(table=SOURCES[source].table) for source in sources))
        yield Snapshot(connection, sources, await connection.fetch(SQL["watermarks"], sources))


@asynccontextmanager
async def statement(pool: Pool, sources: Sequence[SourceName]) -> AsyncIterator[Snapshot]:
    """For a report that reads rollups, in one statement: that one is of one moment by itself."""
    async with pool.acquire(timeout=PATIENCE_SECONDS) as connection:
        yield Snapshot(connection, sources)
