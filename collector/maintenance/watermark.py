"""Tell the reports how fresh they are: up to which instant everything accepted is stored.

In a work queue a message stays until a collector confirms it, which is after its commit. So the first message's
instant is such an instant, or, where the stream is empty, that of an answer from before it was looked at. It is
JetStream's clock alone; it goes stale when collectors die, and is never wrong.
"""

from __future__ import annotations

from typing import Final

from nats.aio.client import Client

from collector import metrics
from collector.maintenance.state import StateReport
from collector.sources.source import Source
from core import postgres
from core.health import Readiness
from core.jetstream import StreamInfo, stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

EVERY_SECONDS: Final = 0.25
AGAIN_SECONDS: Final = 1.0
COMMAND_SECONDS: Final = 20.0  # of a server that vanished without a word nothing else is heard
_SQL: Final = statements("maintenance")


async def advance_watermark(client: Client, dsn: str, source: Source, readiness: Readiness) -> None:
    """Write the watermark and the state of a source for ever. Both are stale while that fails."""
    report = StateReport(client, source, readiness)
    watermark = Watermark(client, dsn, source, report)
    try:
        await periodically(
            metrics.step(source.name, "watermark", readiness), watermark.advance, EVERY_SECONDS, AGAIN_SECONDS
        )
    finally:
        watermark.close()


class Watermark:
    """Writes one source's watermark over a connection that it keeps."""

    def __init__(self, client: Client, dsn: str, source: Source, report: StateReport) -> None:
        self._client = client
        self._dsn = dsn
        self._source = source
        self._report = report
        self._connection: Connection | None = None

    async def advance(self) -> None:
        """Write it once. Raises StreamMissing, and what the database raises."""
        info = await stream_info(self._client, self._source.stream)
        earlier = info.ts
        if not info.state.messages:
            info = await stream_info(self._client, self._source.stream)
        _tell(self._source, info)
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
            await self._report.write(self._connection, info)
        except BaseException:
            self.close()  # it may lead to a server that is a standby by now
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _tell(source: Source, info: StreamInfo) -> None:
    metrics.pending_messages.labels(source.name).set(info.state.messages)
    metrics.lag_seconds.labels(source.name).set(max(0.0, (info.ts - info.stored_until(info.ts)).total_seconds()))
