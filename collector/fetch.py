"""Fetch messages from a source's stream, and confirm them.

    pull asked --messages--> waiting --take--> held --ack--> gone
         \\--expired, ended or lost--> asked again      \\--nak--> redelivered at once

A pull loop of our own over two subscriptions: nats-py's `fetch` costs three to four times as much a message and
returns as soon as one is there. Two pulls stand at any time, each bounded in messages and in bytes; one that ended,
expired or went silent (a server restarted) is asked again. While a message waits or is held, JetStream is told
every third of the acknowledgement wait that we are at it, so that a slow store never causes a redelivery. Who cannot
store at all must not say so for ever: `give_back` lets another collector have everything, until `go_on`.
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
from core.lifecycle import cancelled

log = structlog.get_logger()

PULLS: Final = 2
LOOK_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 0.01


class Fetcher:
    """The messages of one stream, for one collector. Start it, take from it, settle what was taken, stop it."""

    def __init__(self, client: Client, stream: str, source: str, *, ack_wait_seconds: float, batch_rows: int) -> None:
        self._client = client
        self._stream = stream
        self._durable = consumer_of(source)
        self._source = source
        self._wanted = declared_consumer(source, ack_wait_seconds=ack_wait_seconds, batch_rows=batch_rows)
        self._ack_wait = ack_wait_seconds
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._unsettled: set[Message] = set()
        self._arrived = asyncio.Event()
        self._asking = asyncio.Event()  # set when there may be something to ask for
        self._pulls: list[Pull] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make the consumer where it is missing, and ask for messages."""
        await ensure_consumer(self._client, self._source, self._wanted)
        self._pulls = [
            Pull(self._client, self._stream, self._durable, self._receive, over=self._asking.set) for _ in range(PULLS)
        ]
        await self.go_on()
        self._tasks = [asyncio.create_task(self._keep_pulling()), asyncio.create_task(self._keep_unsettled())]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._arrived.set())  # who waits learns that nothing will come

    async def stop(self) -> None:
        """Give back what was not settled, and end. Safe to call twice."""
        await cancelled(self._tasks)
        await self.give_back()

    async def go_on(self) -> None:
        """Ask for messages, from the start or again."""
        for pull in self._pulls:
            await pull.start()
        self._asking.set()

    async def give_back(self) -> None:
        """Ask for nothing more until told to go on, and give back at once what was not settled. Safe to call twice.

        Pulls end first: one that stands would be given the same messages again. What was taken may still be stored and
        confirmed, whoever has it by then: its receipt lets one of them store it.
        """
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        await self._settle(list(self._unsettled), b"-NAK")
        self._waiting.clear()
        self._waiting_bytes = 0

    async def take(self, most_events: int, linger_seconds: float) -> list[Message]:
        """At least one message: wait for the first, then for more up to so many events or so long.

        Raises what ended the pulling, if anything did: without it nothing would ever come again.
        """
        while not self._waiting:
            self._arrived.clear()
            self._raise_failure()
            await self._arrived.wait()
        self._raise_failure()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + linger_seconds
        taken: dict[int, Message] = {}
        events = 0
        while True:
            while self._waiting and (not taken or events + self._waiting[0].events <= most_events):
                if self._waiting[0].sequence in taken:  # delivered twice: never in one batch
                    return list(taken.values())
                message = self._waiting.popleft()
                self._waiting_bytes -= len(message.body)
                self._asking.set()
                events += message.events
                taken[message.sequence] = message
            remaining = deadline - loop.time()
            if self._waiting or remaining <= 0:
                return list(taken.values())
            self._arrived.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self._arrived.wait()
            except TimeoutError:
                return list(taken.values())

    async def ack(self, messages: Iterable[Message]) -> None:
        """Confirm: the transaction that holds their rows has committed."""
        await self._settle(messages, b"+ACK")

    async def _settle(self, messages: Iterable[Message], how: bytes) -> None:
        for message in messages:
            self._unsettled.discard(message)
            await self._tell(message, how)

    async def _tell(self, message: Message, what: bytes) -> None:
        # Not flushed: nats-py sends at once by itself, and in 2.16 a PONG that comes after a flush has timed out or
        # was cancelled ends the client's reading, for some 15 s, until its own pings are found to be unanswered.
        try:
            await self._client.publish(message.reply, what)
        except nats.errors.Error as error:  # not connected: JetStream delivers again, and the receipt knows it
            log.debug("could not tell JetStream", what=what.decode(), error=repr(error))

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def _receive(self, message: Message) -> None:
        self._unsettled.add(message)
        self._waiting.append(message)
        self._waiting_bytes += len(message.body)
        self._arrived.set()

    async def _keep_unsettled(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait / 3)
            for message in list(self._unsettled):
                if message in self._unsettled:
                    await self._tell(message, b"+WPI")

    async def _keep_pulling(self) -> None:
        """Ask again for each pull that is over. Nothing is asked for while plenty waits: memory stays bounded.

        Looks also when nobody says so: for pulls that went silent, and for those that a restarted server forgot.
        """
        while True:
            self._asking.clear()
            if self._waiting_bytes < PULLS * Pull.MAX_BYTES:
                for pull in self._pulls:
                    if pull.over:
                        await self._ask(pull)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asking.wait()
            await asyncio.sleep(PAUSE_SECONDS)  # a server that rejects at once is not asked without a pause

    async def _ask(self, pull: Pull) -> None:
        try:
            if pull.consumer_missing:
                await ensure_consumer(self._client, self._source, self._wanted)
            await pull.ask()
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.warning("cannot pull", stream=self._stream, error=repr(error))
            await asyncio.sleep(0.5)
