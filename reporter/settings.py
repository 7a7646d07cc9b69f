"""Settings of the reporter."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from core.settings import Dsn, OwnerDsn, Port, Seconds, Settings


class ReporterSettings(Settings, frozen=True, kw_only=True):
    """Settings that only the reporter reads."""

    reporter_dsn: Annotated[Dsn, Meta(description="DSN of PostgreSQL, as the read-only role")] = (
        "postgresql://sluice_reporter@127.0.0.1:5432/sluice"
    )
    sluice_migrate_dsn: OwnerDsn = None
    reporter_host: Annotated[
        str, Meta(description="IP address or name that the reporter listens on; :: for IPv4 and IPv6")
    ] = "127.0.0.1"
    reporter_port: Annotated[Port, Meta(description="Port of reports, health and metrics")] = 8081
    reporter_tokens: Annotated[
        str | None,
        Meta(
            description="Who may read reports: name:token or name:token:source,source, separated by spaces or line "
            "ends; empty: every client"
        ),
    ] = None
    reporter_connections: Annotated[
        int, Meta(ge=1, le=100, description="Maximum number of connections to PostgreSQL")
    ] = 8
    reporter_statement_timeout_seconds: Annotated[
        Seconds, Meta(description="Time-out of a report's statement; the answer is then 504")
    ] = 10.0
    reporter_rows_range_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=24 * 366,
            description="Maximum hours of single events that a report reads, for very large stores; 0: no limit",
        ),
    ] = 0
    reporter_drain_seconds: Annotated[
        Seconds, Meta(description="Maximum time to finish open requests after SIGTERM")
    ] = 15.0

    @property
    def rows_limit(self) -> timedelta | None:
        """The longest time whose rows a report reads; None if there is no limit."""
        return timedelta(hours=self.reporter_rows_range_hours) if self.reporter_rows_range_hours else None
