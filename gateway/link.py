"""The link to JetStream: connect, see that the streams are there, and say whether the gateway is ready.

    connecting --connected, streams there--> ready --connection lost--> not ready --back, streams there--> ready

While it is not, at the start as later, the publisher holds on to what it has, for as long as
GATEWAY_PUBLISH_TIMEOUT_SECONDS: neither a worker that starts nor a short outage costs a sender that never retries
anything.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

import nats.errors
from nats.aio.client import Client

from core import jetstream
from core.events.subjects import GATEWAY_STATE_SUBJECT
from core.health import Readiness
from core.periodic import Step, periodically
from gateway import metrics
from gateway.batching import MESSAGE_MOST_BYTES
from gateway.publish import Publisher
from gateway.settings import GatewaySettings

WATCH_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 1.0
REPORT_SECONDS: Final = 1.0
PENDING_BYTES: Final = 16 * 1024 * 1024  # more than all lanes of the publisher together have on their way


class Link:
    """Keeps one worker's connection."""

    def __init__(self, settings: GatewaySettings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher
        self._client: Client | None = None
        self._seen = -1  # the count of reconnects for which the streams are there
        self._readiness = Readiness("nats", "streams")
        self._reported = 0  # requests turned away, up to the last report

    def set_not_ready(self, name: str, reason: str) -> None:
        """Not ready any more, for a reason that lies elsewhere."""
        self._readiness.set_not_ready(name, reason)

    def answer(self) -> tuple[int, bytes]:
        """Status and JSON body of /health/ready."""
        if self._client is None or not self._client.is_connected:
            self._readiness.set_not_ready("nats", "not connected")
        elif self._client.max_payload < MESSAGE_MOST_BYTES:
            allowed = self._client.max_payload
            self._readiness.set_not_ready(
                "nats", f"max_payload is {allowed}, a message has up to {MESSAGE_MOST_BYTES} bytes"
            )
        else:
            self._readiness.set_ready("nats")
        return self._readiness.answer()

    async def keep(self) -> None:
        """Connect, and see to the streams: now, after each reconnect, and when one seems to be missing.

        Never returns. Whatever JetStream answers is retried: a worker that ended would cut off its requests.
        Raises Misconfigured where NATS_URL is none.
        """
        self._client = await jetstream.connect(
            self._settings, name=f"gateway-{os.getpid()}", pending_size=PENDING_BYTES
        )
        expected = (nats.errors.Error,)
        await asyncio.gather(
            periodically(Step("streams", expected=expected), self._see_to_streams, WATCH_SECONDS, PAUSE_SECONDS),
            periodically(Step("report", expected=expected), self._report, REPORT_SECONDS),
        )

    async def _see_to_streams(self) -> None:
        client = self._client
        assert client is not None
        reconnects = client.stats["reconnects"]
        if not client.is_connected or (reconnects == self._seen and not self._publisher.stream_missing):
            return
        self._publisher.stream_missing, self._seen = False, -1
        try:
            await jetstream.ensure_streams(client, self._settings)
            await self._publisher.serve(client)
        except Exception as error:
            self._readiness.set_not_ready("streams", repr(error))
            raise
        self._readiness.set_ready("streams")
        self._seen = reconnects

    async def _report(self) -> None:
        """Report how many requests this worker answered 500 or 503 since its last report."""
        if self._client is None or not self._client.is_connected:
            return
        turned_away = metrics.requests[500].total + metrics.requests[503].total
        await self._client.publish(GATEWAY_STATE_SUBJECT, b"%d" % (turned_away - self._reported))
        self._reported = turned_away

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            await self._client.close()
