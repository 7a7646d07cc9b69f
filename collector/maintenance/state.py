"""Report a source's state to the database once a second: how full its stream is, whether it is paused or stopped.

The collector of rejected events also listens to the gateways, so that the page can say whether they turn requests away.
What is not reported any more goes stale, and `core/state.py` judges that as a problem.
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


class StateReport:
    """Writes the state of one source. If readiness lacks "collecting", this collector has stopped."""

    def __init__(self, client: Client, source: Source, readiness: Readiness) -> None:
        self._client = client
        self._source = source
        self._readiness = readiness
        self._begun = float("-inf")
        self._listening = False
        self._turned_away: deque[tuple[float, int]] = deque()
        self._heard: float | None = None

    async def write(self, connection: Connection, info: StreamInfo) -> None:
        """Write it if the last time was a second ago. Raises what the database raises."""
        if (now := time.monotonic()) - self._begun < EVERY_SECONDS:
            return
        self._begun = now
        try:
            if self._source.name == REJECTED and not self._listening:
                await self._client.subscribe(GATEWAY_STATE_SUBJECT, cb=self._hear)
                self._listening = True
            consumer = await self._client.jetstream().consumer_info(
                self._source.stream, consumer_of(self._source.name), timeout=CONSUMER_SECONDS
            )
            paused = bool(consumer.paused)
        except nats.js.errors.NotFoundError:  # it is made again by the next pull, and a pause ended with it
            paused = False
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.debug("no word of the consumer", error=repr(error))
            return  # the report of before goes stale
        name, stream_bytes, stream_max_bytes = self._source.name, info.state.bytes, max(info.config.max_bytes, 0)
        await connection.execute(_SQL["note_source"], name, stream_bytes, stream_max_bytes, paused)
        if why := self._readiness.reason("collecting"):
            await connection.execute(_SQL["note_stopped"], name, why)
        if self._listening:
            turned_away, seconds_ago = self._of_gateways(time.monotonic())
            await connection.execute(_SQL["note_gateways"], turned_away, seconds_ago)

    async def _hear(self, message: Msg) -> None:
        self._heard = time.monotonic()
        try:
            count = int(message.data)
        except ValueError:
            return
        if count:
            self._turned_away.append((self._heard, count))

    def _of_gateways(self, now: float) -> tuple[int, float | None]:
        """Requests that gateways turned away of late, and how many seconds ago one of them reported."""
        while self._turned_away and self._turned_away[0][0] < now - TURNED_AWAY_SECONDS:
            self._turned_away.popleft()
        return sum(count for _, count in self._turned_away), None if self._heard is None else now - self._heard
