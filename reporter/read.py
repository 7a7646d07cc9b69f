"""Read one report from one moment of the database.

    lock --> snapshot: watermarks and partition floors --> rollups --> ragged edges --> end

Invariant: everything that a report says comes from one REPEATABLE READ, READ ONLY transaction. Partitions are locked
against being dropped before its snapshot is taken, so the floor that it reads holds to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from core.events.subjects import Source
from core.health import Readiness
from core.postgres import UNREACHABLE, migrations
from core.settings import ReporterSettings
from reporter.cover import cover, quarter_hour
from reporter.freshness import Freshness, freshness
from reporter.query import BadQuery, Period
from sql import statements

Record = asyncpg.Record
Pool = asyncpg.Pool

SQL: Final = statements("report_snapshot")

# How long a report waits for a free connection, and how much longer than the server itself we wait for an answer.
PATIENCE_SECONDS: Final = 2.0

AWAY: Final = (
    *UNREACHABLE,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,  # a statement timeout is one too: ask for QueryCanceledError first
    asyncpg.InterfaceError,
)
"""What asyncpg raises while the database is away, restarts or has no room."""


async def open_pool(settings: ReporterSettings) -> Pool:
    """Connections that can only read, and that give up where a report would take too long."""
    return await asyncpg.create_pool(
        settings.reporter_dsn,
        min_size=1,
        max_size=settings.reporter_connections,
        timeout=5,
        command_timeout=settings.reporter_statement_seconds + PATIENCE_SECONDS,
        server_settings={
            "application_name": "sluice-reporter",
            "timezone": "UTC",
            "default_transaction_read_only": "on",
            "statement_timeout": str(max(1, round(settings.reporter_statement_seconds * 1000))),  # 0 would mean none
            # A generic plan knows neither the range nor what is filtered: it would look at every partition.
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
        },
    )


async def check(pool: Pool, readiness: Readiness) -> None:
    """Note whether PostgreSQL answers and holds the schema of this program."""
    wanted = migrations()[-1].version
    try:
        found = await asyncio.wait_for(pool.fetchval(SQL["schema_version"]), PATIENCE_SECONDS)
    except (*AWAY, asyncpg.PostgresError) as error:
        readiness.missing("postgres", str(error) or "no answer in time: it is away, or all connections are busy")
        return
    readiness.fine("postgres")
    if found >= wanted:
        readiness.fine("schema")
    else:
        readiness.missing("schema", f"version {found}, this program needs {wanted}")


class Figure(NamedTuple):
    """Figures of one source; sign is -1 where they are to be taken away."""

    sign: int
    source: Source
    record: Record


class Snapshot:
    """One moment of the database, for the sources of one report."""

    def __init__(self, connection: PoolConnectionProxy[Record], watermarks: Sequence[asyncpg.Record]) -> None:
        self.connection = connection
        self.freshness: dict[Source, Freshness] = {row["source"]: freshness(row) for row in watermarks}
        self.floor: datetime = max(row["floor"] for row in watermarks)
        """Rows before this instant are no longer kept."""

    async def figures(
        self, period: Period, rollups: str, rows: Mapping[Source, str], arguments: Sequence[Any] = ()
    ) -> AsyncIterator[Figure]:
        """A period's figures from rollups and ragged edges.

        `rollups` takes ($1 start, $2 end, $3 quarter-hours left out, $4 sources, arguments...) and names the source
        of each record; `rows` of a source takes ($1 start, $2 end, arguments...). Raises BadQuery where rows are
        needed that are no longer kept.
        """
        covered = cover(period.bounds, datetime.now(UTC))
        if any(span.start < self.floor for span in covered.spans):
            raise self._ragged(period)
        if covered.has_rollups:
            for record in await self.connection.fetch(
                rollups, covered.start, covered.end, covered.left_out, list(self.freshness), *arguments
            ):
                yield Figure(1, record["source"], record)
        for source in self.freshness:
            for span in covered.spans:
                for record in await self.connection.fetch(rows[source], span.start, span.end, *arguments):
                    yield Figure(span.sign, source, record)

    async def rows(self, period: Period, rows: Mapping[Source, str], arguments: Sequence[Any]) -> AsyncIterator[Figure]:
        """A period's figures from rows alone; as `figures`."""
        if period.start < self.floor:
            raise BadQuery("from", f"is for ranges from {self.floor.isoformat()} on: older rows are not kept")
        for source in self.freshness:
            for record in await self.connection.fetch(rows[source], period.start, period.end, *arguments):
                yield Figure(1, source, record)

    def _ragged(self, period: Period) -> BadQuery:
        ragged = next(bound for bound in period.bounds if quarter_hour(bound) != bound)
        return BadQuery(
            {period.start: "from", period.end: "to"}.get(ragged, "interval"),
            f"{ragged.isoformat()} lies inside a quarter-hour. Before {self.floor.isoformat()} events are kept as "
            "counts of quarter-hours only: let from, to and every bucket begin on one (:00, :15, :30, :45 UTC)",
        )


@asynccontextmanager
async def snapshot(pool: Pool, sources: Sequence[Source]) -> AsyncIterator[Snapshot]:
    """Open one moment of the database; everything read in the block is of that moment."""
    async with (
        pool.acquire(timeout=PATIENCE_SECONDS) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for source in sources:
            await connection.execute(SQL[f"lock_{source}"])
        yield Snapshot(connection, await connection.fetch(SQL["watermarks"], sources))
