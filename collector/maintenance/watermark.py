"""Record the watermark of a source: the instant up to which all accepted events are stored.

A work queue keeps a message until a collector acknowledges it, after its commit. Therefore the watermark is the instant
of the stream's first message. If the stream is empty, it is the server time of the response before the one that showed
it empty. Only JetStream's clock is used. If collectors die, the watermark becomes stale, but never wrong.
"""

from __future__ import annotations

from typing import Final

from nats.aio.client import Client

from collector import metrics
from collector.maintenance.state import StateRecorder
from collector.sources.source import Source
from core import postgres
from core.health import Readiness
from core.jetstream import StreamInfo, stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

EVERY_SECONDS: Final = 0.25
AGAIN_SECONDS: Final = 1.0
COMMAND_SECONDS: Final = 20.0  # detects a dead peer (a half-open TCP connection)
_SQL: Final = statements("maintenance")


async def advance_watermark(client: Client, dsn: str, source: Source, readiness: Readiness) -> None:
    """Record the watermark and the state of a source until cancelled. Both are stale while that fails."""
    watermark = Watermark(client, dsn, source, StateRecorder(client, source, readiness))
    try:
        await periodically(
            metrics.step(source.name, "watermark", readiness), watermark.advance, EVERY_SECONDS, AGAIN_SECONDS
        )
    finally:
        watermark.close()


class Watermark:
    """Records one source's watermark and state, over one connection."""

    def __init__(self, client: Client, dsn: str, source: Source, state: StateRecorder) -> None:
        self._client = client
        self._dsn = dsn
        self._source = source
        self._state = state
        self._connection: Connection | None = None

    async def advance(self) -> None:
        """Record them once. Raises StreamMissing, and what the database raises."""
        info = await stream_info(self._client, self._source.stream)
        earlier = info.ts
        if not info.state.messages:
            info = await stream_info(self._client, self._source.stream)
        _record_metrics(self._source, info)
        try:
            if self._connection is None:
                self._connection = await postgres.connect(
                    self._dsn, name="sluice-watermark", patience_seconds=5, command_seconds=COMMAND_SECONDS
                )
            await self._connection.execute(
                _SQL["record_stream_life"], self._source.stream, info.created, info.state.last_seq
            )
            if self._source.table is not None:
                await self._connection.execute(
                    _SQL["advance_watermark"], self._source.name, info.stored_until(earlier), info.state.messages
                )
            await self._state.record(self._connection, info)
        except BaseException:
            self.close()  # its server may be a standby by now
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _record_metrics(source: Source, info: StreamInfo) -> None:
    metrics.pending_messages.labels(source.name).set(info.state.messages)
    metrics.lag_seconds.labels(source.name).set(max(0.0, (info.ts - info.stored_until(info.ts)).total_seconds()))
