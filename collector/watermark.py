"""Tell the reports how fresh they are: up to which instant everything accepted is stored.

In a work queue a message stays until a collector confirms it, which is after its commit. So the first message's
instant is such an instant, or, where the stream is empty, that of an answer from before it was looked at. It is
JetStream's clock alone; it goes stale when collectors die, and is never wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import structlog
from nats.aio.client import Client

from collector import metrics
from collector.source import Source
from collector.state import StateReport
from collector.verdict import Verdict, verdict
from core import postgres
from core.jetstream import StreamInfo, StreamMissing, stream_info
from sql import statements

EVERY_SECONDS: Final = 0.25
COMMAND_SECONDS: Final = 20.0  # of a server that vanished without a word nothing else is heard
_SQL: Final = statements("maintenance")
log = structlog.get_logger()


async def keep_watermark(client: Client, dsn: str, source: Source, stopped: Callable[[], str] = lambda: "") -> None:
    """Write the watermark and the state of a source for ever. Errors that pass are waited out; both go stale.

    stopped: why this collector stopped; empty while it runs.
    """
    report = StateReport(client, source, stopped)
    connection: asyncpg.Connection[Any] | None = None
    try:
        while True:
            try:
                info = await stream_info(client, source.stream)
                earlier = info.ts
                if not info.state.messages:
                    info = await stream_info(client, source.stream)
                if connection is None or connection.is_closed():
                    connection = await postgres.connect(
                        dsn, name="sluice-watermark", patience_seconds=5, command_seconds=COMMAND_SECONDS
                    )
                _tell(source, info)
                await connection.execute(_SQL["note_life"], source.stream, info.created, info.state.last_seq)
                if source.table is not None:
                    await connection.execute(
                        _SQL["advance_watermark"], source.name, info.stored_until(earlier), info.state.messages
                    )
                await report.write(connection, info)
            except StreamMissing as error:
                log.warning("no word of the stream", error=str(error))
                await asyncio.sleep(1)
            except Exception as error:
                if verdict(error) is not Verdict.WAIT:
                    raise
                log.debug("watermark not written", error=repr(error))
                if connection is not None:  # it may stand at a server that is a standby by now
                    connection.terminate()
                    connection = None
                await asyncio.sleep(1)
            await asyncio.sleep(EVERY_SECONDS)
    finally:
        if connection is not None:
            connection.terminate()


def _tell(source: Source, info: StreamInfo) -> None:
    metrics.pending_messages.labels(source.name).set(info.state.messages)
    metrics.lag_seconds.labels(source.name).set(max(0.0, (info.ts - info.stored_until(info.ts)).total_seconds()))
