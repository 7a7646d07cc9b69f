"""What the reporter counts about itself."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from core.metrics import DURATION_BUCKETS
from reporter.read import Pool

duration: Final = Histogram(
    "reporter_report_duration_seconds", "From the query to the answer", ["report"], buckets=DURATION_BUCKETS
)
reports: Final = Counter("reporter_reports", "Reports asked for, by HTTP status of the answer", ["report", "status"])
pool_connections: Final = Gauge("reporter_pool_connections", "Connections to PostgreSQL", ["state"])
pool_limit: Final = Gauge("reporter_pool_connections_max", "Most connections to PostgreSQL (REPORTER_CONNECTIONS)")


def watch(pool: Pool) -> None:
    """Let the pool's gauges tell of this pool whenever they are scraped."""
    pool_connections.labels("idle").set_function(pool.get_idle_size)
    pool_connections.labels("busy").set_function(lambda: pool.get_size() - pool.get_idle_size())
    pool_limit.set(pool.get_max_size())
