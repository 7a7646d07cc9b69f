"""Settings of a collector."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from core.settings import Dsn, OwnerDsn, Port, Seconds, Settings

RETENTION_MARGIN_DAYS: Final = 4
"""A day's partition is kept this much longer than an event of that day can be accepted."""
MIN_RETENTION_DAYS: Final = 1 + RETENTION_MARGIN_DAYS
"""For the smallest MAX_EVENT_AGE_DAYS. The database does not drop a later day (`drop_days` in sql/migrations)."""


class CollectorSettings(Settings, frozen=True, kw_only=True):
    """Settings of one collector. Its source is an option of the command line."""

    collector_dsn: Annotated[Dsn, Meta(description="PostgreSQL, as the collectors' role")] = (
        "postgresql://sluice_collector@127.0.0.1:5432/sluice"
    )
    sluice_migrate_dsn: OwnerDsn = None
    collector_host: Annotated[str, Meta(description="Address of a collector's health and metrics")] = "127.0.0.1"
    collector_port: Annotated[Port, Meta(description="Port of a collector's health and metrics; 0: any free port")] = 0
    collector_batch_rows: Annotated[int, Meta(ge=1, le=200_000, description="Maximum events per batch")] = 20_000
    collector_batch_milliseconds: Annotated[
        int, Meta(ge=0, le=10_000, description="Maximum wait for a batch to fill")
    ] = 50
    collector_ack_wait_seconds: Annotated[
        Seconds, Meta(description="JetStream redelivers an unacknowledged message after this time")
    ] = 10.0
    collector_drain_seconds: Annotated[Seconds, Meta(description="Maximum duration of the stop after SIGTERM")] = 20.0
    partitions_ahead_days: Annotated[int, Meta(ge=1, le=60, description="Daily partitions created in advance")] = 7
    retention_days: Annotated[
        int,
        Meta(
            ge=MIN_RETENTION_DAYS,
            le=3650,
            description=f"Days of events kept; at least MAX_EVENT_AGE_DAYS + {RETENTION_MARGIN_DAYS}",
        ),
    ] = 90
    receipt_retention_days: Annotated[
        int, Meta(ge=3, le=365, description="Days that single receipts are kept, before they are summed")
    ] = 3
    dead_letter_retention_days: Annotated[
        int, Meta(ge=1, le=3650, description="Days that rejected events and dead letters are kept")
    ] = 90
