"""The settings of the reporter."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from core.settings import Dsn, OwnerDsn, Port, Seconds, Settings


class ReporterSettings(Settings, frozen=True, kw_only=True):
    """The reporter's own."""

    reporter_dsn: Annotated[Dsn, Meta(description="PostgreSQL, as the role that only reads")] = (
        "postgresql://sluice_reporter@127.0.0.1:5432/sluice"
    )
    sluice_migrate_dsn: OwnerDsn = None
    reporter_host: Annotated[str, Meta(description="The same for the reporter")] = "127.0.0.1"
    reporter_port: Annotated[Port, Meta(description="Port of the reports, health and metrics")] = 8081
    reporter_connections: Annotated[int, Meta(ge=1, le=100, description="Most connections to PostgreSQL")] = 8
    reporter_statement_timeout_seconds: Annotated[
        Seconds, Meta(description="A report that takes longer is answered 504")
    ] = 10.0
    reporter_rows_range_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=24 * 366,
            description="Longest range of figures that only rows can give: cities, campaigns",
        ),
    ] = 24
    reporter_drain_seconds: Annotated[Seconds, Meta(description="Longest stop after SIGTERM")] = 15.0
