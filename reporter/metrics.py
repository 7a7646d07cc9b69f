"""What the reporter counts about itself."""

from __future__ import annotations

from typing import Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

from core.metrics import DURATION_BUCKETS
from core.pg_errors import unknown_trace
from core.sources import SOURCES
from reporter.database import DATABASE_TIMEOUT_SECONDS, SQL, Pool
from reporter.reports import REPORTS

log = structlog.get_logger()

duration: Final = Histogram(
    "reporter_report_duration_seconds", "From the query to the answer", ["report"], buckets=DURATION_BUCKETS
)
reports: Final = Counter("reporter_reports", "Reports asked for, by HTTP status of the answer", ["report", "status"])
pool_connections: Final = Gauge("reporter_pool_connections", "Connections to PostgreSQL", ["state"])
pool_limit: Final = Gauge("reporter_pool_connections_max", "Most connections to PostgreSQL (REPORTER_CONNECTIONS)")
stored_until: Final = Gauge(
    "reporter_stored_until_timestamp_seconds",
    "Up to which instant all that was accepted is in the reports, in seconds since 1970; now less this is freshness",
    ["source"],
)
schema_version: Final = Gauge("reporter_schema_version", "The newest migration that the database holds")

for _report in REPORTS:  # there from the start, or rate() would not see the first
    duration.labels(_report.name)
    for _status in (200, 304, 400, 406, 500, 503, 504):
        reports.labels(_report.name, _status)


async def read_database(pool: Pool) -> None:
    """Bring up to date what the database knows. While it cannot say so nothing changes here: the reports grow older."""
    try:
        schema_version.set(await pool.fetchval(SQL["schema_version"], timeout=DATABASE_TIMEOUT_SECONDS))
        for row in await pool.fetch(SQL["watermarks"], list(SOURCES), timeout=DATABASE_TIMEOUT_SECONDS):
            if row["stored_until"] is not None:
                stored_until.labels(row["source"]).set(row["stored_until"].timestamp())
    except Exception as error:
        log.warning("metrics of the database are not read", error=repr(error), **unknown_trace(error))


def watch(pool: Pool) -> None:
    """Let the pool's gauges tell of this pool whenever they are scraped."""
    pool_connections.labels("idle").set_function(pool.get_idle_size)
    pool_connections.labels("busy").set_function(lambda: pool.get_size() - pool.get_idle_size())
    pool_limit.set(pool.get_max_size())
