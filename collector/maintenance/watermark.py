"""Record the watermark of a source: the instant up to which all accepted events are stored.

    stream holds messages          instant of the first message
    stream is empty, one copy      server time of the response before the one that showed it empty
    stream is empty, more copies   the same, if the state includes a marker that was published in between

A work queue keeps a message until a collector acknowledges it, after its commit. Therefore everything before the first
message is stored. This also holds for the state of a server that lost its quorum: the state is old, but it was true. An
empty state of such a server proves nothing, because the other servers may accept messages. So a marker, a message
without events, is published first. Only a quorum confirms it, and every state with its sequence includes all messages
that were accepted before it.

Only JetStream's clock is used. Without collectors or without a quorum the watermark becomes stale, but never wrong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from nats.aio.client import Client

from collector import metrics
from collector.maintenance.state import StateRecorder
from collector.sources.source import Source
from core import postgres
from core.fence import Fence
from core.health import Readiness
from core.jetstream import StreamInfo, StreamMissing, publish_marker, stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

EVERY_SECONDS: Final = 0.25
AGAIN_SECONDS: Final = 1.0
COMMAND_SECONDS: Final = 10.0  # detects a dead peer (a half-open TCP connection)
_SQL: Final = statements("maintenance")


async def advance_watermark(
    client: Client, dsn: str, source: Source, readiness: Readiness, fence: Fence | None = None
) -> None:
    """Record the watermark and the state of a source until cancelled. Both are stale while that fails."""
    watermark = Watermark(client, dsn, source, StateRecorder(client, source, readiness), fence)
    try:
        await periodically(
            metrics.step(source.name, "watermark", readiness), watermark.advance, EVERY_SECONDS, AGAIN_SECONDS
        )
    finally:
        watermark.close()


class Watermark:
    """Records one source's watermark and state, over one connection."""

    def __init__(
        self, client: Client, dsn: str, source: Source, state: StateRecorder, fence: Fence | None = None
    ) -> None:
        self._fence = fence
        self._client = client
        self._dsn = dsn
        self._source = source
        self._state = state
        self._connection: Connection | None = None

    async def advance(self) -> None:
        """Record them once. Raises StreamMissing, and what the database raises."""
        info, earlier = await self._read_state()
        _record_metrics(self._source, info)
        try:
            if self._connection is None:
                self._connection = await postgres.connect(
                    self._dsn,
                    name="sluice-watermark",
                    patience_seconds=5,
                    command_seconds=COMMAND_SECONDS,
                    accept=self._fence.accept if self._fence else None,
                )
            elif self._fence is not None:
                self._fence.check(self._connection)
            await self._connection.execute(
                _SQL["record_stream_life"], self._source.stream, info.created, info.state.last_seq
            )
            if self._source.table is not None:
                await self._connection.execute(
                    _SQL["advance_watermark"], self._source.name, info.stored_until(earlier), info.state.messages
                )
            await self._state.record(self._connection, info)
        except Exception:
            await self._give_up()  # its server may be a standby by now
            raise

    async def _give_up(self) -> None:
        # Not terminated: a session that waits for a synchronous standby would never notice, and each one counts.
        connection, self._connection = self._connection, None
        if connection is not None:
            await postgres.close(connection)

    async def _read_state(self) -> tuple[StreamInfo, datetime]:
        """Return a state of the stream, and an instant. All messages accepted before the instant are in the state.

        Raises StreamMissing.
        """
        info = await stream_info(self._client, self._source.stream)
        earlier, marker = info.ts, 0
        if info.state.messages:
            return info, earlier
        if info.config.num_replicas > 1 and self._source.table is not None:
            marker = await publish_marker(self._client, self._source.name)
        info = await stream_info(self._client, self._source.stream)
        if info.state.last_seq < marker:
            raise StreamMissing(f"{self._source.stream}: the server that answered lacks message {marker}")
        return info, earlier

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _record_metrics(source: Source, info: StreamInfo) -> None:
    metrics.pending_messages.labels(source.name).set(info.state.messages)
    metrics.lag_seconds.labels(source.name).set(max(0.0, (info.ts - info.stored_until(info.ts)).total_seconds()))
