"""One pull request for messages of a stream.

requested --messages--> received, until the request is complete, expires or is lost --> due: request again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from collector.message import Message
from core.events.subjects import EVENTS_HEADER, REPLAYED_HEADER
from core.jetstream import StreamMissing, stream_info

log = structlog.get_logger()

PULL_MESSAGES: Final = 2_000
PULL_SECONDS: Final = 5.0
STOP_SECONDS: Final = 5.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Pull:
    """One pull request at a time, on its own subscription.

    receive     called with each message
    on_end      called when the request is complete, or JetStream ended it
    """

    MAX_BYTES: ClassVar = 8 * 1024 * 1024

    def __init__(
        self, client: Client, stream: str, durable: str, receive: Callable[[Message], None], on_end: Callable[[], None]
    ) -> None:
        self._client = client
        self._stream = stream
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._receive = receive
        self._on_end = on_end
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._remaining = 0
        self._deadline = 0.0
        self._reconnects = 0  # reconnects at the time of the request: a restarted server has forgotten it
        self.consumer_missing = False

    async def start(self) -> None:
        """Subscribe, unless subscribed. The new inbox does not receive messages of an earlier request."""
        if self._subscription is not None:
            return
        self._inbox, self._remaining = self._client.new_inbox(), 0
        # No pending limits of the client, which drops messages over them: the request itself limits what arrives.
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def stop(self) -> None:
        """Unsubscribe, and receive all messages sent before: only a received message can be released.

        Like nats-py's drain(), but with a request as the round trip: drain() flushes (see `Fetcher._respond`).
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if self._client.is_connected:
                    await self._client._send_unsubscribe(subscription._id)
                    await stream_info(self._client, self._stream)  # answered after all messages sent before
                    await subscription._pending_queue.join()
        except (nats.errors.Error, StreamMissing, TimeoutError) as error:
            log.debug("pull not drained", error=repr(error))
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()

    @property
    def due(self) -> bool:
        """Whether a new request is due: the last one is complete, expired or lost. Never while stopped."""
        if self._subscription is None:
            return False
        expired = asyncio.get_running_loop().time() > self._deadline
        return self._remaining <= 0 or expired or self._client.stats["reconnects"] != self._reconnects

    async def request(self) -> None:
        """Send a request for PULL_MESSAGES messages. Raises nats.errors.Error if it cannot be sent."""
        self._reconnects = self._client.stats["reconnects"]
        self._remaining = PULL_MESSAGES
        self._deadline = asyncio.get_running_loop().time() + PULL_SECONDS + 1.0
        body = {"batch": PULL_MESSAGES, "max_bytes": self.MAX_BYTES, "expires": int(PULL_SECONDS * 1e9)}
        await self._client.publish(self._subject, orjson.dumps(body), reply=self._inbox)

    async def _on_message(self, msg: Msg) -> None:
        if not msg.reply:  # a status message: the request ended
            status = (msg.headers or {}).get("Status", "")
            self.consumer_missing = status == "503" or "Consumer" in (msg.headers or {}).get("Description", "")
            if status != "100":
                self._remaining = 0
                self._on_end()
            return
        self.consumer_missing = False
        self._remaining -= 1
        if not self._remaining:
            self._on_end()
        self._receive(_message(msg))


def _message(msg: Msg) -> Message:
    """Return a message with its metadata, which JetStream encodes in the reply subject (ADR-15, two forms)."""
    tokens = msg.reply.split(".")
    delivered, sequence, _, published, _ = tokens[4:9] if len(tokens) == 9 else tokens[6:11]
    return Message(
        body=msg.data,
        sequence=int(sequence),
        published_at=_EPOCH + timedelta(microseconds=int(published) // 1000),
        events=_event_count(msg),
        first_delivery=delivered == "1",
        reply=msg.reply,
        replayed=REPLAYED_HEADER in (msg.headers or {}),
    )


def _event_count(msg: Msg) -> int:
    """Return the count in the message's header; 1 for a message without a valid one."""
    try:
        return int((msg.headers or {})[EVENTS_HEADER])
    except (KeyError, ValueError):
        return 1
