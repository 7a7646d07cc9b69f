"""The reporter's Prometheus metrics."""

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
    "reporter_report_duration_seconds",
    "Time to answer a report, from request to response",
    ["report"],
    buckets=DURATION_BUCKETS,
)
reports: Final = Counter("reporter_reports", "Report requests by HTTP status", ["report", "status"])
pool_connections: Final = Gauge("reporter_pool_connections", "Open connections to PostgreSQL", ["state"])
pool_limit: Final = Gauge(
    "reporter_pool_connections_max", "Maximum number of connections to PostgreSQL (REPORTER_CONNECTIONS)"
)
stored_until: Final = Gauge(
    "reporter_stored_until_timestamp_seconds",
    "Watermark: every event accepted before this Unix time is in the reports",
    ["source"],
)
schema_version: Final = Gauge("reporter_schema_version", "Version of the newest migration in the database")

for _report in REPORTS:  # series exist from the start, because rate() ignores the first sample of a new series
    duration.labels(_report.name)
    for _status in (200, 304, 400, 406, 500, 503, 504):
        reports.labels(_report.name, _status)


async def read_database(pool: Pool) -> None:
    """Refresh the gauges that come from the database. If the database does not answer, they keep their values."""
    try:
        schema_version.set(await pool.fetchval(SQL["schema_version"], timeout=DATABASE_TIMEOUT_SECONDS))
        for row in await pool.fetch(SQL["watermarks"], list(SOURCES), timeout=DATABASE_TIMEOUT_SECONDS):
            if row["stored_until"] is not None:
                stored_until.labels(row["source"]).set(row["stored_until"].timestamp())
    except Exception as error:
        log.warning("database metrics not refreshed", error=repr(error), **unknown_trace(error))


def watch(pool: Pool) -> None:
    """Let the pool gauges read this pool at each scrape."""
    pool_connections.labels("idle").set_function(pool.get_idle_size)
    pool_connections.labels("busy").set_function(lambda: pool.get_size() - pool.get_idle_size())
    pool_limit.set(pool.get_max_size())
