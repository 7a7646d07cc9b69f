"""One standing request for messages of a stream.

asked --messages--> received, until it is answered in full, expires or is lost --> over: ask again
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
    """One standing request for messages, on a subscription of its own. Calls `over` when it is answered in full."""

    MAX_BYTES: ClassVar = 8 * 1024 * 1024

    def __init__(
        self, client: Client, stream: str, durable: str, receive: Callable[[Message], None], over: Callable[[], None]
    ) -> None:
        self._client = client
        self._stream = stream
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._receive = receive
        self._tell_over = over
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._remaining = 0
        self._deadline = 0.0
        self._connection = 0  # the count of reconnects when it was asked: a server that restarted has forgotten it
        self.consumer_missing = False

    async def start(self) -> None:
        """Listen, where it does not yet; what an earlier request asked for does not come here."""
        if self._subscription is not None:
            return
        self._inbox, self._remaining = self._client.new_inbox(), 0
        # Without a limit of the client's own, which drops what is past it: a pull is bounded by what it asks for.
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._arrived, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def stop(self) -> None:
        """Ask for nothing more, and take in what is on its way: only what has arrived can be given back.

        What nats-py's drain() does, but with a request for the round trip: drain() flushes (see `Fetcher._tell`).
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if self._client.is_connected:
                    await self._client._send_unsubscribe(subscription._id)
                    await stream_info(self._client, self._stream)  # comes after all that was sent before
                    await subscription._pending_queue.join()
        except (nats.errors.Error, StreamMissing, TimeoutError) as error:
            log.debug("could not end a pull in order", error=repr(error))
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()

    @property
    def over(self) -> bool:
        """Whether to ask (again): never while it is stopped."""
        if self._subscription is None:
            return False
        late = asyncio.get_running_loop().time() > self._deadline
        return self._remaining <= 0 or late or self._client.stats["reconnects"] != self._connection

    async def ask(self) -> None:
        self._connection = self._client.stats["reconnects"]
        self._remaining = PULL_MESSAGES
        self._deadline = asyncio.get_running_loop().time() + PULL_SECONDS + 1.0
        request = {"batch": PULL_MESSAGES, "max_bytes": self.MAX_BYTES, "expires": int(PULL_SECONDS * 1e9)}
        await self._client.publish(self._subject, orjson.dumps(request), reply=self._inbox)

    async def _arrived(self, msg: Msg) -> None:
        if not msg.reply:  # a status: the pull is over
            status = (msg.headers or {}).get("Status", "")
            self.consumer_missing = status == "503" or "Consumer" in (msg.headers or {}).get("Description", "")
            if status != "100":
                self._remaining = 0
                self._tell_over()
            return
        self.consumer_missing = False
        self._remaining -= 1
        if not self._remaining:
            self._tell_over()
        self._receive(_message(msg))


def _message(msg: Msg) -> Message:
    """Read what JetStream says of a message in its reply subject (its ADR-15: two forms)."""
    tokens = msg.reply.split(".")
    delivered, sequence, _, published, _ = tokens[4:9] if len(tokens) == 9 else tokens[6:11]
    return Message(
        body=msg.data,
        sequence=int(sequence),
        published_at=_EPOCH + timedelta(microseconds=int(published) // 1000),
        events=_counted(msg),
        first_delivery=delivered == "1",
        reply=msg.reply,
        replayed=REPLAYED_HEADER in (msg.headers or {}),
    )


def _counted(msg: Msg) -> int:
    """The count its header gives; a message of a foreign sender counts as one."""
    try:
        return int((msg.headers or {})[EVENTS_HEADER])
    except (KeyError, ValueError):
        return 1
