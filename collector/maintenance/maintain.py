"""Background maintenance of a collector: partitions ahead, retention, and termination of stuck sessions.

    round: pause -> sessions -> partitions -> retention -> countries -> receipts -> dead_letters -> rejected_events

Every collector runs all steps: each step is safe while another collector runs it. Invariant: a step that fails does not
prevent the others. It is logged and retried in the next round; the metric of its last success shows its age.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Final

import asyncpg
import structlog
from nats.aio.client import Client

from collector import metrics
from collector.settings import RETENTION_MARGIN_DAYS, CollectorSettings
from collector.sources.source import Source
from core import postgres
from core.errors import Misconfigured, SluiceError
from core.events.subjects import consumer_of
from core.fence import Fence
from core.health import Readiness
from core.jetstream import stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

EVERY_SECONDS: Final = 10.0  # plus STUCK_AFTER: less than the 30 s in which the system must recover
COMMAND_SECONDS: Final = 60.0  # detects a dead peer (a half-open TCP connection)
STUCK_AFTER: Final = timedelta(seconds=15)
_PARTITIONS: Final = statements("partitions")
_COUNTRIES: Final = statements("countries")
_SQL: Final = statements("maintenance")
log = structlog.get_logger()


def check_retention(settings: CollectorSettings) -> None:
    """Raise Misconfigured if the gateway could accept an event of a day that is already dropped."""
    minimum = settings.max_event_age_days + RETENTION_MARGIN_DAYS
    if settings.retention_days < minimum:
        raise Misconfigured(
            f"RETENTION_DAYS: has to be at least {minimum}, {RETENTION_MARGIN_DAYS} more than MAX_EVENT_AGE_DAYS"
        )


async def maintain(
    client: Client, source: Source, settings: CollectorSettings, readiness: Readiness, fence: Fence | None = None
) -> None:
    """Run a round of maintenance every EVERY_SECONDS, until cancelled."""
    step = metrics.step(source.name, "maintenance", readiness)
    await periodically(step, Maintenance(client, source, settings, readiness, fence).round, EVERY_SECONDS)


class Maintenance:
    """Runs the maintenance steps of one source."""

    def __init__(
        self,
        client: Client,
        source: Source,
        settings: CollectorSettings,
        readiness: Readiness,
        fence: Fence | None = None,
    ) -> None:
        self._fence = fence
        self._client = client
        self._source = source
        self._settings = settings
        steps: dict[str, Callable[[Connection], Awaitable[None]]] = {"pause": self._pause, "sessions": self._sessions}
        if source.table is not None:
            steps |= {"partitions": self._partitions, "retention": self._retention, "countries": self._countries}
        steps |= {"receipts": self._receipts, "dead_letters": self._dead_letters}
        if source.table is None:
            steps["rejected_events"] = self._rejected_events
        self._steps = [(metrics.step(source.name, name, readiness), run) for name, run in steps.items()]

    async def round(self) -> None:
        """Attempt each step once. Raises what connecting to PostgreSQL raised."""
        connection: Connection | None = None
        try:
            for step, run in self._steps:
                if connection is None:
                    connection = await self._connect()
                if not await step.attempt(run(connection)):  # the connection may be in any state
                    await postgres.close(connection)  # cancels a session that waits for a synchronous standby
                    connection = None
        finally:
            if connection is not None:
                connection.terminate()

    async def _connect(self) -> Connection:
        return await postgres.connect(
            self._settings.collector_dsn,
            name="sluice-maintenance",
            patience_seconds=5,
            command_seconds=COMMAND_SECONDS,
            accept=self._fence.accept if self._fence else None,
        )

    async def _pause(self, _: Connection) -> None:
        """Record whether the consumer is paused: JetStream then delivers nothing."""
        info = await self._client.jetstream().consumer_info(self._source.stream, consumer_of(self._source.name))
        metrics.paused.labels(self._source.name).set(bool(info.paused))

    async def _sessions(self, connection: Connection) -> None:
        for row in await connection.fetch(_SQL["terminate_stuck_sessions"], STUCK_AFTER):
            terminated = row["terminated"]
            log.warning("stuck session terminated" if terminated else "stuck session not terminated", pid=row["pid"])

    async def _partitions(self, connection: Connection) -> None:
        table = str(self._source.table)
        today = await connection.fetchval(_SQL["today"])
        failed = await create_partitions_ahead(connection, table, today, self._settings.partitions_ahead_days)
        metrics.partitions_ahead.labels(self._source.name).set(await _days_ahead(connection, table, today))
        if failed:
            raise failed[0]

    async def _retention(self, connection: Connection) -> None:
        floor = await connection.fetchval(_SQL["today"]) - timedelta(days=self._settings.retention_days)
        days = await connection.fetch(_PARTITIONS["drop_before"], self._source.table, floor)
        kept = [f"{row['day']}: {row['error']}" for row in days if row["error"]]
        if dropped := len(days) - len(kept):
            log.info("partitions dropped", table=self._source.table, before=str(floor), partitions=dropped)
        if kept:
            raise SluiceError(f"{len(kept)} days of {self._source.table} cannot be dropped, the first is {kept[0]}")

    async def _receipts(self, connection: Connection) -> None:
        stream = await stream_info(self._client, self._source.stream)
        kept = timedelta(days=self._settings.receipt_retention_days)
        await connection.execute(
            _SQL["sum_old_receipts"], self._source.stream, kept, stream.created, stream.state.first_seq
        )

    async def _dead_letters(self, connection: Connection) -> None:
        await connection.execute(_SQL["delete_old_dead_letters"], self._dead_letters_kept)

    async def _rejected_events(self, connection: Connection) -> None:
        await connection.execute(_SQL["delete_old_rejected_events"], self._dead_letters_kept)

    @property
    def _dead_letters_kept(self) -> timedelta:
        return timedelta(days=self._settings.dead_letter_retention_days)

    async def _countries(self, connection: Connection) -> None:
        places = await connection.fetchval(_COUNTRIES["free_places"])
        metrics.free_country_rollups.labels(self._source.name).set(places)


async def create_partitions_ahead(
    connection: Connection, table: str, today: date, days: int
) -> list[asyncpg.PostgresError]:
    """Create the partitions from yesterday to `days` days ahead. Return the errors of those that failed."""
    failed = []
    for offset in range(-1, days + 1):
        day = today + timedelta(days=offset)
        try:
            if await connection.fetchval(_PARTITIONS["ensure"], table, day) == "attached":
                log.warning("partition reattached", table=table, day=str(day))
        except asyncpg.PostgresError as error:
            failed.append(error)
    return failed


async def _days_ahead(connection: Connection, table: str, today: date) -> int:
    """Return how many days after today have a partition, up to the first gap."""
    existing = {row["day"] for row in await connection.fetch(_PARTITIONS["days"], table)}
    ahead = 0
    while today + timedelta(days=ahead + 1) in existing:
        ahead += 1
    return ahead
