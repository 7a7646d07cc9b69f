"""What a collector does beside storing: partitions ahead, retention, and ending sessions that are stuck.

    round: pause -> sessions -> partitions -> retention -> countries -> receipts -> dead_letters -> rejected_events

Every collector does all of it: each step is safe beside another collector doing the same. Invariant: a step that fails
keeps no other one from its work. It is logged, tried again next round, and the metric of its last success grows old.
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
from core.health import Readiness
from core.jetstream import stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

EVERY_SECONDS: Final = 10.0  # and STUCK_AFTER: together within the 30 s in which all is to be well again
COMMAND_SECONDS: Final = 60.0  # of a server that vanished without a word nothing else is heard
STUCK_AFTER: Final = timedelta(seconds=15)
_PARTITIONS: Final = statements("partitions")
_COUNTRIES: Final = statements("countries")
_SQL: Final = statements("maintenance")
log = structlog.get_logger()


def check_retention(settings: CollectorSettings) -> None:
    """Raises Misconfigured where an event could still be accepted for a day that is already dropped."""
    least = settings.max_event_age_days + RETENTION_MARGIN_DAYS
    if settings.retention_days < least:
        raise Misconfigured(
            f"RETENTION_DAYS: has to be at least {least}, {RETENTION_MARGIN_DAYS} more than MAX_EVENT_AGE_DAYS"
        )


async def maintain(client: Client, source: Source, settings: CollectorSettings, readiness: Readiness) -> None:
    """Maintain for ever, a round every EVERY_SECONDS."""
    step = metrics.step(source.name, "maintenance", readiness)
    await periodically(step, Maintenance(client, source, settings, readiness).round, EVERY_SECONDS)


class Maintenance:
    """The steps of one source."""

    def __init__(self, client: Client, source: Source, settings: CollectorSettings, readiness: Readiness) -> None:
        self._client = client
        self._source = source
        self._settings = settings
        works: dict[str, Callable[[Connection], Awaitable[None]]] = {"pause": self._pause, "sessions": self._sessions}
        if source.table is not None:
            works |= {"partitions": self._partitions, "retention": self._retention, "countries": self._countries}
        works |= {"receipts": self._receipts, "dead_letters": self._dead_letters}
        if source.table is None:
            works["rejected_events"] = self._rejected_events
        self._steps = [(metrics.step(source.name, name, readiness), work) for name, work in works.items()]

    async def round(self) -> None:
        """Attempt each step once. Raises what connecting raised."""
        connection: Connection | None = None
        try:
            for step, work in self._steps:
                if connection is None:
                    connection = await self._connected()
                if not await step.attempt(work(connection)):  # the connection may be in any state
                    connection.terminate()
                    connection = None
        finally:
            if connection is not None:
                connection.terminate()

    async def _connected(self) -> Connection:
        return await postgres.connect(
            self._settings.collector_dsn,
            name="sluice-maintenance",
            patience_seconds=5,
            command_seconds=COMMAND_SECONDS,
        )

    async def _pause(self, _: Connection) -> None:
        """A pause is the consumer's: JetStream hands out nothing, and nothing else here would show it."""
        info = await self._client.jetstream().consumer_info(self._source.stream, consumer_of(self._source.name))
        metrics.paused.labels(self._source.name).set(bool(info.paused))

    async def _sessions(self, connection: Connection) -> None:
        for row in await connection.fetch(_SQL["end_stuck_sessions"], STUCK_AFTER):
            log.warning("ended a session that was stuck" if row["ended"] else "a stuck session stays", pid=row["pid"])

    async def _partitions(self, connection: Connection) -> None:
        table = str(self._source.table)
        today = await connection.fetchval(_SQL["today"])
        failed = await make_ahead(connection, table, today, self._settings.partitions_ahead_days)
        metrics.partitions_ahead.labels(self._source.name).set(await _days_ahead(connection, table, today))
        if failed:
            raise failed[0]

    async def _retention(self, connection: Connection) -> None:
        floor = await connection.fetchval(_SQL["today"]) - timedelta(days=self._settings.retention_days)
        days = await connection.fetch(_PARTITIONS["drop_before"], self._source.table, floor)
        kept = [f"{row['day']}: {row['error']}" for row in days if row["error"]]
        if dropped := len(days) - len(kept):
            log.info("dropped partitions", table=self._source.table, before=str(floor), partitions=dropped)
        if kept:
            raise SluiceError(f"{len(kept)} days of {self._source.table} cannot be dropped, the first is {kept[0]}")

    async def _receipts(self, connection: Connection) -> None:
        stream = await stream_info(self._client, self._source.stream)
        kept = timedelta(days=self._settings.receipt_retention_days)
        await connection.execute(
            _SQL["sum_old_receipts"], self._source.stream, kept, stream.created, stream.state.first_seq
        )

    async def _dead_letters(self, connection: Connection) -> None:
        await connection.execute(_SQL["drop_old_dead_letters"], self._dead_letters_kept)

    async def _rejected_events(self, connection: Connection) -> None:
        await connection.execute(_SQL["drop_old_rejected_events"], self._dead_letters_kept)

    @property
    def _dead_letters_kept(self) -> timedelta:
        return timedelta(days=self._settings.dead_letter_retention_days)

    async def _countries(self, connection: Connection) -> None:
        places = await connection.fetchval(_COUNTRIES["free_places"])
        metrics.country_places.labels(self._source.name).set(places)


async def make_ahead(connection: Connection, table: str, today: date, days: int) -> list[asyncpg.PostgresError]:
    """Make the partitions from yesterday to so many days ahead; the errors of those that could not be made."""
    failed = []
    for offset in range(-1, days + 1):
        day = today + timedelta(days=offset)
        try:
            if await connection.fetchval(_PARTITIONS["ensure"], table, day) == "attached":
                log.warning("attached a detached partition again", table=table, day=str(day))
        except asyncpg.PostgresError as error:
            failed.append(error)
    return failed


async def _days_ahead(connection: Connection, table: str, today: date) -> int:
    """How many days after today have their partition without a gap."""
    made = {row["day"] for row in await connection.fetch(_PARTITIONS["days"], table)}
    ahead = 0
    while today + timedelta(days=ahead + 1) in made:
        ahead += 1
    return ahead
