"""The connection to JetStream: connect, ensure that the streams exist, and report readiness.

    connecting --connected, streams exist--> ready --connection lost--> not ready --reconnected, streams exist--> ready

While it is not ready, the publisher keeps its blocks for up to GATEWAY_PUBLISH_TIMEOUT_SECONDS. So a starting worker or
a short outage loses no event of a sender that never retries.
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
from core.periodic import PeriodicTask, periodically
from gateway import metrics
from gateway.batching import MAX_MESSAGE_BYTES
from gateway.publish import Publisher
from gateway.settings import GatewaySettings

WATCH_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0
REPORT_SECONDS: Final = 1.0
PENDING_BYTES: Final = 16 * 1024 * 1024  # more than all unacknowledged messages of the publisher


class Link:
    """The connection of one worker."""

    def __init__(self, settings: GatewaySettings, publisher: Publisher) -> None:
        self._settings = settings
        self._publisher = publisher
        self._client: Client | None = None
        self._checked_reconnects = -1  # the reconnect count for which the streams were checked
        self._readiness = Readiness("nats", "streams")
        self._reported = 0  # failed requests up to the last report

    def set_not_ready(self, name: str, reason: str) -> None:
        """Set a need to not ready, for a reason outside this connection."""
        self._readiness.set_not_ready(name, reason)

    def health(self) -> tuple[int, bytes]:
        """Return status and JSON body of /health/ready."""
        if self._client is None or not self._client.is_connected:
            self._readiness.set_not_ready("nats", "not connected")
        elif self._client.max_payload < MAX_MESSAGE_BYTES:
            max_payload = self._client.max_payload
            self._readiness.set_not_ready(
                "nats", f"max_payload is {max_payload}; it must be at least {MAX_MESSAGE_BYTES}"
            )
        else:
            self._readiness.set_ready("nats")
        return self._readiness.answer()

    async def run(self) -> None:
        """Connect and ensure the streams: at start, after each reconnect, and when one seems to be missing.

        Never returns. Errors of JetStream are retried, because a worker that ended would cut off its requests. Raises
        Misconfigured if NATS_URL is invalid.
        """
        self._client = await jetstream.connect(
            self._settings, name=f"gateway-{os.getpid()}", pending_size=PENDING_BYTES
        )
        expected = (nats.errors.Error,)
        await asyncio.gather(
            periodically(
                PeriodicTask("streams", expected=expected), self._ensure_streams, WATCH_SECONDS, RETRY_SECONDS
            ),
            periodically(PeriodicTask("report", expected=expected), self._report, REPORT_SECONDS),
        )

    async def _ensure_streams(self) -> None:
        client = self._client
        assert client is not None
        reconnects = client.stats["reconnects"]
        if not client.is_connected or (reconnects == self._checked_reconnects and not self._publisher.stream_missing):
            return
        self._publisher.stream_missing, self._checked_reconnects = False, -1
        try:
            await jetstream.ensure_streams(client, self._settings)
            await self._publisher.use_connection(client)
        except Exception as error:
            self._readiness.set_not_ready("streams", repr(error))
            raise
        self._readiness.set_ready("streams")
        self._checked_reconnects = reconnects

    async def _report(self) -> None:
        """Publish how many requests this worker answered with 500 or 503 since its last report."""
        if self._client is None or not self._client.is_connected:
            return
        failed_requests = metrics.requests[500].total + metrics.requests[503].total
        await self._client.publish(GATEWAY_STATE_SUBJECT, b"%d" % (failed_requests - self._reported))
        self._reported = failed_requests

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()
