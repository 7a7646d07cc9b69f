r"""Publish blocks of events to JetStream; retry each message until its PubAck arrives or no request waits for it.

    blocks --group commit--> message --publish--> PubAck --> notify each of its requests
                                |   |                \--none in time: retry with the same id and bytes
                                |    \--stream full--> fail its requests at once
                                 \--not connected: wait

Invariants: a request succeeds only after the PubAcks of all messages that contain its blocks. A retry sends the same id
and bytes. So a message that JetStream drops as a duplicate equals the message that it has stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from nats.aio.client import Client

from core.errors import StreamFull
from core.events.subjects import EVENTS_HEADER, MESSAGE_ID_HEADER, events_subject, rejected_subject
from core.jetstream import NO_ROOM
from core.sources import SOURCES, SourceName
from gateway import metrics
from gateway.batch import Block
from gateway.batching import Message, PendingRequest, SubjectBatcher
from gateway.correlation import Origin
from gateway.puback import NoPubAck, NoStream, PubAcks
from gateway.rejection import NotServing, UnexpectedDuplicate

ATTEMPT_TIMEOUT_SECONDS: Final = 2.5
RETRY_SECONDS: Final = 0.1
EXPIRY_CHECK_SECONDS: Final = 0.1

log = structlog.get_logger()


class Publisher:
    """Publish to JetStream over one connection."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._acks: PubAcks | None = None
        self._connected = asyncio.Event()
        self._batchers: Final[dict[SourceName, SubjectBatcher]] = {
            source: SubjectBatcher(events_subject(source), self._deliver, metrics.processed[source])
            for source in SOURCES
        }
        self._rejected_batchers: Final[dict[SourceName | None, SubjectBatcher]] = {
            source: SubjectBatcher(rejected_subject(source), self._deliver) for source in (*SOURCES, None)
        }
        self._waiting: set[PendingRequest] = set()
        self._timer_runs = False
        self.stream_missing = False
        """Whether NATS replied that no stream listens on a subject. `gateway.link` sets it back."""

    async def use_connection(self, client: Client) -> None:
        """Publish over this connection from now on. Its streams must exist. Does nothing if it is already in use."""
        if self._client is not client:
            acks = PubAcks(client)
            await acks.listen()
            self._client, self._acks = client, acks
            self._connected.set()

    async def publish(self, origin: Origin, blocks: Mapping[SourceName, list[Block]], seconds: float) -> None:
        """Publish accepted events by source. Return when each of them is on JetStream's disk.

        Empties the lists of `blocks`, so that each block is freed as soon as it is stored. Raises StreamFull and
        UnexpectedDuplicate. Raises StreamUnreachable if a PubAck is missing after `seconds`; some of the blocks may be
        stored. Raises NotServing if there is no connection after `seconds`; nothing was published.
        """
        await self._publish(origin, [(self._batchers[source], blocks[source]) for source in blocks], seconds)

    async def publish_rejected(
        self, origin: Origin, records: Mapping[SourceName | None, list[Block]], seconds: float
    ) -> None:
        """Publish rejected events by source, None if the source could not be read. Raises the errors of `publish`."""
        await self._publish(origin, [(self._rejected_batchers[source], records[source]) for source in records], seconds)

    async def _publish(
        self, origin: Origin, by_batcher: Sequence[tuple[SubjectBatcher, list[Block]]], seconds: float
    ) -> None:
        if not self._connected.is_set():
            await self._wait_for_connection(seconds)
        request = PendingRequest(origin, sum([len(blocks) for _, blocks in by_batcher]), seconds)
        for batcher, blocks in by_batcher:
            batcher.add(request, blocks)
            blocks.clear()
        self._waiting.add(request)
        if not self._timer_runs:
            self._time_out_requests()
        try:
            await request.done
        finally:
            self._waiting.discard(request)
            del request  # its future holds the error, whose traceback holds this frame: a cycle

    def _time_out_requests(self) -> None:
        """Time out the requests that have waited too long. One timer for all requests costs less than one for each."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request in [request for request in self._waiting if request.until <= now]:
            request.time_out()
        self._timer_runs = bool(self._waiting)
        if self._timer_runs:
            loop.call_later(EXPIRY_CHECK_SECONDS, self._time_out_requests)

    async def _wait_for_connection(self, seconds: float) -> None:
        """Wait for the first connection: a new worker may get requests before it is connected. Raises NotServing."""
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            raise NotServing("the gateway has not connected to JetStream yet") from None

    async def _deliver(self, message: Message) -> None:
        """Publish one message until its PubAck arrives or no request waits for it. Notify its requests."""
        attempts = 0
        started = time.perf_counter()
        while message.is_awaited():
            try:
                duplicate = await self._attempt(message)
            except StreamFull as error:
                metrics.publish_full.inc()
                log.warning("stream full", subject=message.subject, events=message.events, error=str(error))
                message.fail(error)
                return
            except NoPubAck as error:
                attempts += 1
                metrics.publish_retries.inc()
                log.warning("no PubAck", subject=message.subject, id=message.id, attempt=attempts, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if duplicate and not attempts:
                metrics.publish_unexpected_duplicates.inc()
                log.error("unexpected duplicate", subject=message.subject, id=message.id)
                message.fail(UnexpectedDuplicate("JetStream reported a new message as a duplicate"))
                return
            metrics.publish_seconds.observe(time.perf_counter() - started)
            metrics.batch_events.observe(message.events)
            message.confirm()
            return

    async def _attempt(self, message: Message) -> bool:
        """Publish once. Return whether JetStream already had this id. Raises StreamFull and NoPubAck."""
        assert self._client and self._acks
        while not self._client.is_connected:  # nats-py would queue the message and might send it after the time-out
            if not message.is_awaited():
                raise NoPubAck("not connected")
            await asyncio.sleep(RETRY_SECONDS)
        headers = {MESSAGE_ID_HEADER: message.id, EVENTS_HEADER: str(message.events)}
        try:
            ack = await self._acks.publish(message.subject, message.content, headers, ATTEMPT_TIMEOUT_SECONDS)
        except NoStream:
            self.stream_missing = True
            raise
        if ack.error is None:
            return ack.duplicate
        if ack.error.err_code in NO_ROOM:
            raise StreamFull(f"{message.subject}: {ack.error.description}")
        raise NoPubAck(f"{ack.error.err_code} {ack.error.description}")
