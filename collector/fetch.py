"""Fetch messages from a source's stream, and acknowledge them.

    pull requested --messages--> buffered --fetch--> held --ack--> deleted
         \\--expired, ended or lost--> requested again     \\--nak--> redelivered at once

Uses its own pull loop over two subscriptions: nats-py's `fetch` costs three to four times as much per message and
returns after the first message. Two pull requests are open at any time, each limited in messages and in bytes. A
request that ended, expired or was lost (a server restarted) is sent again.

While a message is buffered or held, the fetcher sends JetStream a progress reply (+WPI) after every third of the
acknowledgement wait, so a slow store never causes a redelivery. A collector that cannot store must not do so for ever:
`release` returns all messages for another collector, until `resume`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from collector.message import Message
from collector.pull import Pull
from core.consumers import declared_consumer, ensure_consumer
from core.events.subjects import consumer_of
from core.lifecycle import cancel_and_wait

log = structlog.get_logger()

PULLS: Final = 2
CHECK_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 0.01


class Fetcher:
    """Fetches the messages of one stream for one collector: start, fetch, ack or release, stop."""

    def __init__(self, client: Client, stream: str, source: str, *, ack_wait_seconds: float, batch_rows: int) -> None:
        self._client = client
        self._stream = stream
        self._durable = consumer_of(source)
        self._source = source
        self._consumer_config = declared_consumer(source, ack_wait_seconds=ack_wait_seconds, batch_rows=batch_rows)
        self._ack_wait = ack_wait_seconds
        self._buffer: deque[Message] = deque()
        self._buffered_bytes = 0
        self._unacked: set[Message] = set()
        self._message_arrived = asyncio.Event()
        self._pull_due = asyncio.Event()  # set when a pull request may be due
        self._pulls: list[Pull] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Create the consumer if it is missing, and request messages."""
        await ensure_consumer(self._client, self._source, self._consumer_config)
        self._pulls = [
            Pull(self._client, self._stream, self._durable, self._buffer_message, on_end=self._pull_due.set)
            for _ in range(PULLS)
        ]
        await self.resume()
        self._tasks = [asyncio.create_task(self._keep_pulling()), asyncio.create_task(self._extend_ack_wait())]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._message_arrived.set())  # `fetch` then raises

    async def stop(self) -> None:
        """Release all unacknowledged messages, and end. Safe to call twice."""
        await cancel_and_wait(self._tasks)
        await self.release()

    async def resume(self) -> None:
        """Request messages, for the first time or again after `release`."""
        for pull in self._pulls:
            await pull.start()
        self._pull_due.set()

    async def release(self) -> None:
        """Request no more messages until `resume`, and nak all unacknowledged ones. Safe to call twice.

        The pulls end first: an open pull would receive the same messages again. The caller may still store and
        acknowledge a released message: the receipt lets only one collector store it.
        """
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        await self._respond_all(list(self._unacked), b"-NAK")
        self._buffer.clear()
        self._buffered_bytes = 0

    async def fetch(self, max_events: int, linger_seconds: float) -> list[Message]:
        """Return at least one message: wait for the first, then at most `linger_seconds` for up to `max_events` events.

        Raises the error that ended the pull loop, if there is one: no message arrives after it.
        """
        while not self._buffer:
            self._message_arrived.clear()
            self._raise_failure()
            await self._message_arrived.wait()
        self._raise_failure()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + linger_seconds
        batch: dict[int, Message] = {}
        events = 0
        while True:
            while self._buffer and (not batch or events + self._buffer[0].events <= max_events):
                if self._buffer[0].sequence in batch:  # delivered twice: never in one batch
                    return list(batch.values())
                message = self._buffer.popleft()
                self._buffered_bytes -= len(message.body)
                self._pull_due.set()
                events += message.events
                batch[message.sequence] = message
            remaining = deadline - loop.time()
            if self._buffer or remaining <= 0:
                return list(batch.values())
            self._message_arrived.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self._message_arrived.wait()
            except TimeoutError:
                return list(batch.values())

    async def ack(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages. Call it after the transaction that holds their rows has committed."""
        await self._respond_all(messages, b"+ACK")

    async def _respond_all(self, messages: Iterable[Message], response: bytes) -> None:
        for message in messages:
            self._unacked.discard(message)
            await self._respond(message, response)

    async def _respond(self, message: Message, response: bytes) -> None:
        # No flush: nats-py sends at once. In nats-py 2.16, a PONG that arrives after a flush timed out or was cancelled
        # ends the client's reading for about 15 s, until its own pings time out.
        try:
            await self._client.publish(message.reply, response)
        except nats.errors.Error as error:  # not connected: JetStream redelivers, and the receipt shows it was stored
            log.debug("acknowledgement not sent", acknowledgement=response.decode(), error=repr(error))

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def _buffer_message(self, message: Message) -> None:
        self._unacked.add(message)
        self._buffer.append(message)
        self._buffered_bytes += len(message.body)
        self._message_arrived.set()

    async def _extend_ack_wait(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait / 3)
            for message in list(self._unacked):
                if message in self._unacked:
                    await self._respond(message, b"+WPI")

    async def _keep_pulling(self) -> None:
        """Send a request for each pull that is due. Request nothing while the buffer is full, which bounds memory.

        Also checks every CHECK_SECONDS: no event reports a lost pull, or one that a restarted server forgot.
        """
        while True:
            self._pull_due.clear()
            if self._buffered_bytes < PULLS * Pull.MAX_BYTES:
                for pull in self._pulls:
                    if pull.due:
                        await self._request(pull)
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._pull_due.wait()
            await asyncio.sleep(PAUSE_SECONDS)  # do not busy-loop on a server that rejects at once

    async def _request(self, pull: Pull) -> None:
        try:
            if pull.consumer_missing:
                await ensure_consumer(self._client, self._source, self._consumer_config)
            await pull.request()
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.warning("pull request failed", stream=self._stream, error=repr(error))
            await asyncio.sleep(0.5)
