"""Publish blocks of events: group commit -> seal -> PubAck, again and again until it comes or nobody waits.

    blocks of requests --queue of one subject--> message, sealed --publish--> PubAck --> each request it served
         |  at once when nothing is unacknowledged,              |                \\--no PubAck: same id, same bytes
         |  else after 2 ms or 256 KiB                           \\--stream full--> its requests fail at once

Invariants: a request is done only when every message that holds a block of it has its PubAck. A message never changes
once it is sealed, and its id is random and its own: JetStream may drop a second copy of it, and nothing else.
Blocks of one request are published in their order; a block whose request has failed already is not sent any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import structlog
from nats.aio.client import Client

from core.errors import StreamFull, StreamUnreachable, TryAgain
from core.events import wire
from core.events.subjects import EVENTS_HEADER, MESSAGE_ID_HEADER, SOURCES, events_subject
from gateway import metrics
from gateway.correlation import Origin, new_id
from gateway.decode import Block
from gateway.puback import NoPubAck, NoStream, PubAcks
from gateway.refusal import Doubled, NotServing

SEAL_BYTES: Final = 512 * 1024  # a message holds at most this (its server takes 1 MiB), or one block
SEAL_PARTS: Final = 500
MESSAGE_MOST_BYTES: Final = SEAL_BYTES + SEAL_PARTS * 512  # with the line that names its parts
COMMIT_BYTES: Final = 256 * 1024  # enough to send without waiting for more
LINGER_SECONDS: Final = 0.002
UNACKED_MOST: Final = 8  # messages of one subject on their way; JetStream writes them one after the other
ATTEMPT_SECONDS: Final = 2.5
PAUSE_SECONDS: Final = 0.1
_NO_ROOM: Final = frozenset({10077, 10023, 10047})  # stream at its limit; server or account out of storage
_PROCESSED: Final = {events_subject(source): metrics.processed[source] for source in SOURCES}

log = structlog.get_logger()


class _Request:
    """One request's wait for the PubAcks of all its blocks."""

    def __init__(self, origin: Origin, blocks: int) -> None:
        self.origin = origin
        self._left = blocks
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stored(self) -> None:
        """One more block has its PubAck."""
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: TryAgain) -> None:
        """Nothing more is done for this request."""
        if not self.done.done():
            self.done.set_exception(error)

    def give_up(self, seconds: float) -> None:
        """Its time is over."""
        self.fail(StreamUnreachable(f"no PubAck came within {seconds:g} seconds"))


class _Queued(NamedTuple):
    request: _Request
    block: Block


class _Message(NamedTuple):
    """Sealed. `requests` has each request once for each of its blocks."""

    subject: str
    id: str
    events: int
    content: bytes
    requests: Sequence[_Request]

    def awaited(self) -> bool:
        return any(not request.done.done() for request in self.requests)

    def fail(self, error: TryAgain) -> None:
        for request in self.requests:
            request.fail(error)


class Publisher:
    """Publishes to JetStream over one connection."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._acks: PubAcks | None = None
        self._serving = asyncio.Event()
        self._lanes: dict[str, _Lane] = {}
        self.stream_missing = False
        """Whether nothing answered for a subject: its stream may be gone."""

    async def serve(self, client: Client) -> None:
        """Publish over this connection, whose streams are there. Called again for the same one, does nothing."""
        if self._client is not client:
            acks = PubAcks(client)
            await acks.listen()
            self._client, self._acks = client, acks
            self._serving.set()

    async def publish(self, origin: Origin, blocks: Mapping[str, list[Block]], seconds: float) -> None:
        """Publish blocks by subject; return when each is on JetStream's disk.

        The lists are empty afterwards: a block is let go of as soon as it is stored.
        Raises StreamFull, Doubled, and, when PubAcks are missing after `seconds`, StreamUnreachable: some of the
        blocks may be stored then. Raises NotServing when the first `serve` has not come so long; nothing was published.
        """
        await self._reached(seconds)
        request = _Request(origin, sum(map(len, blocks.values())))
        for subject, of_subject in blocks.items():
            if (lane := self._lanes.get(subject)) is None:
                lane = self._lanes[subject] = _Lane(self, subject)
            lane.add(request, of_subject)
            of_subject.clear()
        patience = asyncio.get_running_loop().call_later(seconds, request.give_up, seconds)
        try:
            await request.done
        finally:
            patience.cancel()

    async def _reached(self, seconds: float) -> None:
        """Wait for the first `serve`: a new worker gets requests, on a port that others serve, before its link stands.

        Raises NotServing.
        """
        if self._serving.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await self._serving.wait()
        except TimeoutError:
            raise NotServing("JetStream has not been reached since the start") from None

    async def deliver(self, message: _Message) -> None:
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
                metrics.publish_doubled.inc()
                log.error("first attempt called a duplicate", subject=message.subject, id=message.id)
                message.fail(Doubled("JetStream called a new message a duplicate"))
                return
            metrics.publish_seconds.observe(time.perf_counter() - began)
            metrics.batch_events.observe(message.events)
            if message.subject in _PROCESSED:
                _PROCESSED[message.subject].inc(message.events)
            for request in message.requests:
                request.stored()
            return

    async def _attempt(self, message: _Message) -> bool:
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
        if ack.error.err_code in _NO_ROOM:
            raise StreamFull(f"{message.subject}: {ack.error.description}")
        raise NoPubAck(f"{ack.error.err_code} {ack.error.description}")


class _Lane:
    """The blocks that wait to be published on one subject."""

    def __init__(self, publisher: Publisher, subject: str) -> None:
        self._publisher = publisher
        self._subject = subject
        self._queue: deque[_Queued] = deque()
        self._bytes = 0
        self._unacked: set[asyncio.Task[None]] = set()
        self._linger: asyncio.Handle | None = None

    def add(self, request: _Request, blocks: Sequence[Block]) -> None:
        self._queue.extend(_Queued(request, block) for block in blocks)
        self._bytes += sum(len(block.content) for block in blocks)
        self._arrange()

    def _arrange(self, *, now: bool = False) -> None:
        """Send what has to be sent, and see to the rest."""
        while self._queue and len(self._unacked) < UNACKED_MOST and (now or self._bytes >= COMMIT_BYTES):
            self._send()
        if self._queue and self._linger is None and len(self._unacked) < UNACKED_MOST:
            loop = asyncio.get_running_loop()
            # Idle: the next run of the loop, so that requests that arrived together share a message.
            self._linger = (
                loop.call_later(LINGER_SECONDS, self._lingered) if self._unacked else loop.call_soon(self._lingered)
            )

    def _lingered(self) -> None:
        self._linger = None
        self._arrange(now=True)

    def _send(self) -> None:
        if message := self._seal():
            task = asyncio.get_running_loop().create_task(self._publisher.deliver(message))
            self._unacked.add(task)
            task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._unacked.discard(task)
        self._arrange(now=not self._unacked)

    def _seal(self) -> _Message | None:
        """One message of the blocks that wait longest. None where none is awaited any more."""
        taken = list(self._take())
        if not taken:
            return None
        parts = []
        for request, group in groupby(taken, key=itemgetter(0)):
            origin = request.origin
            events = sum(queued.block.events for queued in group)
            parts.append(wire.Part(origin.correlation_id, origin.traceparent, origin.received_at, events))
        return _Message(
            subject=self._subject,
            id=new_id(),
            events=sum(part.events for part in parts),
            content=wire.encode(parts, [queued.block.content for queued in taken]),
            requests=[queued.request for queued in taken],
        )

    def _take(self) -> Iterator[_Queued]:
        """The blocks of the next message. Those of requests that have failed are dropped."""
        left_bytes, left_parts = SEAL_BYTES, SEAL_PARTS
        last = None
        while self._queue:
            request, block = self._queue[0]
            if not request.done.done():
                left_bytes -= len(block.content) + 1
                left_parts -= request is not last
                if last and (left_bytes < 0 or left_parts < 0):
                    return
                last = request
                yield self._queue[0]
            self._bytes -= len(block.content)
            self._queue.popleft()
