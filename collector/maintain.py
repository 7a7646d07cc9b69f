"""What a collector does beside storing: partitions ahead, retention, and ending sessions that are stuck.

Every collector does all of it: each step is safe beside another collector doing the same.
"""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any, Final

import asyncpg
import nats.errors
import structlog
from nats.aio.client import Client

from collector import metrics
from collector.source import Source
from collector.verdict import Verdict, verdict
from core import postgres
from core.errors import Misconfigured
from core.events.subjects import consumer_of
from core.jetstream import StreamInfo, StreamMissing, stream_info
from core.settings import CollectorSettings
from sql import statements

EVERY_SECONDS: Final = 10.0  # and STUCK_AFTER: together within the 30 s in which all is to be well again
COMMAND_SECONDS: Final = 60.0  # of a server that vanished without a word nothing else is heard
STUCK_AFTER: Final = timedelta(seconds=15)
_RETENTION_MARGIN_DAYS: Final = 4
_PARTITIONS: Final = statements("partitions")
_COUNTRIES: Final = statements("countries")
_SQL: Final = statements("maintenance")
log = structlog.get_logger()


def check_retention(settings: CollectorSettings) -> None:
    """Raises Misconfigured where an event could still be accepted for a day that is already dropped."""
    least = settings.max_event_age_days + _RETENTION_MARGIN_DAYS
    if settings.retention_days < least:
        raise Misconfigured(
            f"RETENTION_DAYS: {settings.retention_days} is too short for MAX_EVENT_AGE_DAYS "
            f"{settings.max_event_age_days}: at least {least}"
        )


async def maintain(client: Client, source: Source, settings: CollectorSettings) -> None:
    """Maintain for ever. What fails for a while is tried again on the next round."""
    while True:
        connection: asyncpg.Connection[Any] | None = None
        try:
            connection = await postgres.connect(
                settings.collector_dsn,
                name="sluice-maintenance",
                patience_seconds=5,
                command_seconds=COMMAND_SECONDS,
            )
            await _tell_pause(client, source)
            await _round(connection, source, settings, await _stream(client, source))
        except Exception as error:
            if verdict(error) is not Verdict.WAIT:
                raise
            log.warning("maintenance later", error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(EVERY_SECONDS)


async def _round(
    connection: asyncpg.Connection[Any], source: Source, settings: CollectorSettings, stream: StreamInfo | None
) -> None:
    for row in await connection.fetch(_SQL["end_stuck_sessions"], STUCK_AFTER):
        log.warning("ended a session that was stuck", pid=row["pid"])
    if source.table is not None:
        today = await connection.fetchval(_SQL["today"])
        await make_ahead(connection, source.table, today, settings.partitions_ahead_days)
        floor = today - timedelta(days=settings.retention_days)
        if dropped := await connection.fetchval(_PARTITIONS["drop_before"], source.table, floor):
            log.info("dropped partitions", table=source.table, before=str(floor), partitions=dropped)
        metrics.country_places.labels(source.name).set(await connection.fetchval(_COUNTRIES["free_places"]))
        metrics.partitions_ahead.labels(source.name).set(await _days_ahead(connection, source.table, today))
    if stream is not None:
        kept = timedelta(days=settings.receipt_retention_days)
        await connection.execute(_SQL["sum_old_receipts"], source.stream, kept, stream.created, stream.state.first_seq)
    kept = timedelta(days=settings.letter_retention_days)
    await connection.execute(_SQL["drop_old_dead_letters"], kept)
    if source.table is None:
        await connection.execute(_SQL["drop_old_refused_events"], kept)


async def make_ahead(connection: asyncpg.Connection[Any], table: str, today: date, days: int) -> None:
    """Make the partitions from yesterday to so many days ahead."""
    for offset in range(-1, days + 1):
        await connection.fetchval(_PARTITIONS["ensure"], table, today + timedelta(days=offset))


async def _days_ahead(connection: asyncpg.Connection[Any], table: str, today: date) -> int:
    """How many days after today have their partition without a gap."""
    made = {row["day"] for row in await connection.fetch(_PARTITIONS["days"], table)}
    ahead = 0
    while today + timedelta(days=ahead + 1) in made:
        ahead += 1
    return ahead


async def _tell_pause(client: Client, source: Source) -> None:
    """A pause is the consumer's: JetStream hands out nothing, and nothing else here would show it."""
    try:
        info = await client.jetstream().consumer_info(source.stream, consumer_of(source.name))
    except nats.errors.Error as error:
        log.debug("no word of the consumer", error=repr(error))
    else:
        metrics.paused.labels(source.name).set(bool(info.paused))


async def _stream(client: Client, source: Source) -> StreamInfo | None:
    try:
        return await stream_info(client, source.stream)
    except StreamMissing:
        return None
