"""Record a source's state in the database once a second: bytes in its stream, and whether it is paused or stopped.

The collector of rejected events also receives the gateways' reports of requests turned away, and records their sum.
A record that is no longer updated becomes stale; `core/state.py` reports that as a problem.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from collector.sources.source import Source
from core.events.subjects import GATEWAY_STATE_SUBJECT, REJECTED, consumer_of
from core.health import Readiness
from core.jetstream import StreamInfo
from core.postgres import Connection
from core.state import TURNED_AWAY_SECONDS
from sql import statements

EVERY_SECONDS: Final = 1.0
CONSUMER_SECONDS: Final = 2.0
_SQL: Final = statements("state")
log = structlog.get_logger()


class StateRecorder:
    """Records the state of one source. The source is stopped while "collecting" is not ready."""

    def __init__(self, client: Client, source: Source, readiness: Readiness) -> None:
        self._client = client
        self._source = source
        self._readiness = readiness
        self._recorded_at = float("-inf")
        self._subscribed = False
        self._turned_away: deque[tuple[float, int]] = deque()
        self._gateway_reported_at: float | None = None

    async def record(self, connection: Connection, info: StreamInfo) -> None:
        """Record the state, unless that was done less than EVERY_SECONDS ago. Raises what the database raises."""
        if (now := time.monotonic()) - self._recorded_at < EVERY_SECONDS:
            return
        self._recorded_at = now
        try:
            if self._source.name == REJECTED and not self._subscribed:
                await self._client.subscribe(GATEWAY_STATE_SUBJECT, cb=self._on_gateway_report)
                self._subscribed = True
            consumer = await self._client.jetstream().consumer_info(
                self._source.stream, consumer_of(self._source.name), timeout=CONSUMER_SECONDS
            )
            paused = bool(consumer.paused)
        except nats.js.errors.NotFoundError:  # the next pull recreates it, without its pause
            paused = False
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.debug("consumer info unavailable", error=repr(error))
            return  # the last record becomes stale
        name, stream_bytes, stream_max_bytes = self._source.name, info.state.bytes, max(info.config.max_bytes, 0)
        await connection.execute(_SQL["record_source_state"], name, stream_bytes, stream_max_bytes, paused)
        if reason := self._readiness.reason("collecting"):
            await connection.execute(_SQL["record_stopped"], name, reason)
        if self._subscribed:
            turned_away, seconds_ago = self._gateway_state(time.monotonic())
            await connection.execute(_SQL["record_gateway_state"], turned_away, seconds_ago)

    async def _on_gateway_report(self, message: Msg) -> None:
        self._gateway_reported_at = time.monotonic()
        try:
            count = int(message.data)
        except ValueError:
            return
        if count:
            self._turned_away.append((self._gateway_reported_at, count))

    def _gateway_state(self, now: float) -> tuple[int, float | None]:
        """Return the requests turned away within TURNED_AWAY_SECONDS, and the seconds since a gateway last reported."""
        while self._turned_away and self._turned_away[0][0] < now - TURNED_AWAY_SECONDS:
            self._turned_away.popleft()
        reported_at = self._gateway_reported_at
        return sum(count for _, count in self._turned_away), None if reported_at is None else now - reported_at
