r"""Publish blocks of events to JetStream, each message again and again until its PubAck comes or nobody waits for it.

    blocks --group commit--> message --publish--> PubAck --> each request that it served goes on
                                |   |                \--none in time: the same id and bytes once more
                                |    \--stream full--> its requests fail at once
                                 \--not connected: it waits

Invariants: a request is done only when every message that holds a block of it has its PubAck. A retry sends the same
id and the same bytes: JetStream may drop a second copy of a message, and nothing else.
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

ATTEMPT_SECONDS: Final = 2.5
PAUSE_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.1

log = structlog.get_logger()


class Publisher:
    """Publishes to JetStream over one connection."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._acks: PubAcks | None = None
        self._serving = asyncio.Event()
        self._lanes: Final[dict[SourceName, SubjectBatcher]] = {
            source: SubjectBatcher(events_subject(source), self._deliver, metrics.processed[source])
            for source in SOURCES
        }
        self._rejected_lanes: Final[dict[SourceName | None, SubjectBatcher]] = {
            source: SubjectBatcher(rejected_subject(source), self._deliver) for source in (*SOURCES, None)
        }
        self._waiting: set[PendingRequest] = set()
        self._looking = False
        self.stream_missing = False
        """Whether nothing answered for a subject: its stream may be gone."""

    async def serve(self, client: Client) -> None:
        """Publish over this connection, whose streams are there. Called again for the same one, does nothing."""
        if self._client is not client:
            acks = PubAcks(client)
            await acks.listen()
            self._client, self._acks = client, acks
            self._serving.set()

    async def publish(self, origin: Origin, blocks: Mapping[SourceName, list[Block]], seconds: float) -> None:
        """Publish accepted events by source; return when each is on JetStream's disk.

        The lists are empty afterwards: a block is let go of as soon as it is stored.
        Raises StreamFull, UnexpectedDuplicate, and, when PubAcks are missing after `seconds`, StreamUnreachable: some
        of the blocks may be stored then. Raises NotServing when the first `serve` has not come so long; nothing was
        published.
        """
        await self._publish(origin, [(self._lanes[source], blocks[source]) for source in blocks], seconds)

    async def publish_rejected(
        self, origin: Origin, records: Mapping[SourceName | None, list[Block]], seconds: float
    ) -> None:
        """Publish records of rejected events by source, None where it could not be read; all else is as in
        `publish`."""
        await self._publish(origin, [(self._rejected_lanes[source], records[source]) for source in records], seconds)

    async def _publish(
        self, origin: Origin, by_lane: Sequence[tuple[SubjectBatcher, list[Block]]], seconds: float
    ) -> None:
        if not self._serving.is_set():
            await self._reached(seconds)
        request = PendingRequest(origin, sum([len(blocks) for _, blocks in by_lane]), seconds)
        for lane, blocks in by_lane:
            lane.add(request, blocks)
            blocks.clear()
        self._waiting.add(request)
        if not self._looking:
            self._look()
        try:
            await request.done
        finally:
            self._waiting.discard(request)
            del request  # it holds the error, whose traceback holds this frame

    def _look(self) -> None:
        """Give up on requests whose time is over. One timer for all costs less than one for each."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request in [request for request in self._waiting if request.until <= now]:
            request.give_up()
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look)

    async def _reached(self, seconds: float) -> None:
        """Wait for the first `serve`: a new worker gets requests, on a port that others serve, before its link stands.

        Raises NotServing.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._serving.wait()
        except TimeoutError:
            raise NotServing("JetStream has not been reached since the start") from None

    async def _deliver(self, message: Message) -> None:
        """Publish one message until its PubAck comes or no request waits for it any more. Tells the requests."""
        attempts = 0
        began = time.perf_counter()
        while message.awaited():
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
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if duplicate and not attempts:
                metrics.publish_unexpected_duplicates.inc()
                log.error("first attempt called a duplicate", subject=message.subject, id=message.id)
                message.fail(UnexpectedDuplicate("JetStream called a new message a duplicate"))
                return
            metrics.publish_seconds.observe(time.perf_counter() - began)
            metrics.batch_events.observe(message.events)
            message.stored()
            return

    async def _attempt(self, message: Message) -> bool:
        """Publish once; whether JetStream had this id before. Raises StreamFull and NoPubAck."""
        assert self._client and self._acks
        while not self._client.is_connected:  # what waits inside the client may be stored long after we gave up
            if not message.awaited():
                raise NoPubAck("not connected")
            await asyncio.sleep(PAUSE_SECONDS)
        headers = {MESSAGE_ID_HEADER: message.id, EVENTS_HEADER: str(message.events)}
        try:
            ack = await self._acks.publish(message.subject, message.content, headers, ATTEMPT_SECONDS)
        except NoStream:
            self.stream_missing = True
            raise
        if ack.error is None:
            return ack.duplicate
        if ack.error.err_code in NO_ROOM:
            raise StreamFull(f"{message.subject}: {ack.error.description}")
        raise NoPubAck(f"{ack.error.err_code} {ack.error.description}")
