"""Tell the reports how fresh they are: up to which instant everything accepted is stored.

    stream holds messages --> the instant of the first one
    stream is empty       --> the instant of an earlier answer
                              \\--several copies--> ... if a marker that was published since is in the state, too

In a work queue a message stays until a collector confirms it, which is after its commit. So everything before the first
message is stored, also in the state of a server that has lost the other ones: its state is an earlier one. An empty
state of such a server proves nothing: the others may accept messages. So with several copies of a stream, a marker is
published first. Only a quorum confirms it, and no state has its sequence without every message accepted before it.

The watermark is JetStream's clock alone. It goes stale if collectors die or there is no quorum, and is never wrong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from nats.aio.client import Client

from collector import metrics
from collector.maintenance.state import StateReport
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
COMMAND_SECONDS: Final = 20.0  # of a server that vanished without a word nothing else is heard
_SQL: Final = statements("maintenance")


async def keep_watermark(
    client: Client, dsn: str, source: Source, readiness: Readiness, fence: Fence | None = None
) -> None:
    """Write the watermark and the state of a source for ever. Both are stale while that fails."""
    report = StateReport(client, source, readiness)
    watermark = Watermark(client, dsn, source, report, fence)
    try:
        await periodically(
            metrics.step(source.name, "watermark", readiness), watermark.advance, EVERY_SECONDS, AGAIN_SECONDS
        )
    finally:
        watermark.close()


class Watermark:
    """Writes one source's watermark over a connection that it keeps."""

    def __init__(
        self, client: Client, dsn: str, source: Source, report: StateReport, fence: Fence | None = None
    ) -> None:
        self._fence = fence
        self._client = client
        self._dsn = dsn
        self._source = source
        self._report = report
        self._connection: Connection | None = None

    async def advance(self) -> None:
        """Write it once. Raises StreamMissing, and what the database raises."""
        info, earlier = await self._state()
        _tell(self._source, info)
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
            await self._connection.execute(_SQL["note_life"], self._source.stream, info.created, info.state.last_seq)
            if self._source.table is not None:
                await self._connection.execute(
                    _SQL["advance_watermark"], self._source.name, info.stored_until(earlier), info.state.messages
                )
            await self._report.write(self._connection, info)
        except BaseException:
            self.close()  # it may lead to a server that is a standby by now
            raise

    async def _state(self) -> tuple[StreamInfo, datetime]:
        """A state of the stream, and an instant before which everything accepted is in it. Raises StreamMissing."""
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


def _tell(source: Source, info: StreamInfo) -> None:
    metrics.pending_messages.labels(source.name).set(info.state.messages)
    metrics.lag_seconds.labels(source.name).set(max(0.0, (info.ts - info.stored_until(info.ts)).total_seconds()))
