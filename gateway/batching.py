"""Group commit: the blocks of requests that wait for one stream and source, and the messages that are sealed of them.

    blocks of requests --queue--> message, sealed --> deliver
        quiet: at once when nothing is unacknowledged, else after 2 ms or 256 KiB
        busy, once a message served 8 requests: after 8 ms or 256 KiB

Invariants: blocks of one request go on in their order. A message never changes once it is sealed, and its id is random
and its own. A block whose request has failed already is not sent any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, NamedTuple

from core.correlation import new_id
from core.errors import RetryableError, StreamUnreachable
from core.events import wire
from core.events.wire import SEAL_BYTES
from gateway.batch import Block
from gateway.correlation import Origin
from gateway.metrics import Count

SEAL_PARTS: Final = 500
MESSAGE_MOST_BYTES: Final = SEAL_BYTES + SEAL_PARTS * 512  # with the line that names its parts
COMMIT_BYTES: Final = 256 * 1024  # enough to send without waiting for more
QUIET_SECONDS: Final = 0.002
# A message costs NATS and us some 0.4 ms of CPU, most of it for its fsync: with hundreds of connections that post
# single events it is worth waiting for more. Any longer, and who posts again only after an answer is held up.
BUSY_SECONDS: Final = 0.008
BUSY_REQUESTS: Final = 8
UNACKED_MOST: Final = 8  # messages of one subject on their way; JetStream writes them one after the other


class PendingRequest:
    """One request's wait until all of its blocks are stored, at most so many seconds."""

    __slots__ = ("_left", "_seconds", "done", "origin", "until")

    def __init__(self, origin: Origin, blocks: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.origin = origin
        self.until = loop.time() + seconds
        self.done: asyncio.Future[None] = loop.create_future()
        self._left = blocks
        self._seconds = seconds

    def part(self, events: int) -> wire.Part:
        """What a message says of so many events of this request."""
        return wire.Part(self.origin.correlation_id, self.origin.traceparent, self.origin.received_at, events)

    def stored(self) -> None:
        """One more block has its PubAck."""
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: RetryableError) -> None:
        """Nothing more is done for this request."""
        if not self.done.done():
            self.done.set_exception(error.with_traceback(None))  # whose frames hold the message, and it us

    def give_up(self) -> None:
        """Its time is over."""
        self.fail(StreamUnreachable(f"no PubAck came within {self._seconds:g} seconds"))


class Message(NamedTuple):
    """Sealed. `requests` has each request once for each of its blocks; `processed` counts its events once stored."""

    subject: str
    processed: Count | None
    id: str
    events: int
    content: bytes
    requests: Sequence[PendingRequest]

    def awaited(self) -> bool:
        """Whether any request still waits for it."""
        return any(not request.done.done() for request in self.requests)

    def stored(self) -> None:
        """It has its PubAck."""
        if self.processed is not None:
            self.processed.inc(self.events)
        for request in self.requests:
            request.stored()

    def fail(self, error: RetryableError) -> None:
        """It will not be stored: its requests fail."""
        for request in self.requests:
            request.fail(error)


class SubjectBatcher:
    """What waits to be published on one subject. `deliver` publishes a message and tells its requests.

    `processed`, if there is one, counts the events that are stored.
    """

    def __init__(
        self, subject: str, deliver: Callable[[Message], Coroutine[Any, Any, None]], processed: Count | None = None
    ) -> None:
        self._subject = subject
        self._processed = processed
        self._deliver = deliver
        self._queue: deque[tuple[PendingRequest, Block]] = deque()
        self._bytes = 0
        self._unacked: set[asyncio.Task[None]] = set()
        self._linger: asyncio.Handle | None = None
        self._busy = False

    def add(self, request: PendingRequest, blocks: Sequence[Block]) -> None:
        """Let these blocks go out as soon as may be."""
        for block in blocks:
            self._queue.append((request, block))
            self._bytes += len(block.content)
        if self._linger is None or self._bytes >= COMMIT_BYTES:
            self._arrange()

    def _arrange(self, *, now: bool = False) -> None:
        """Send what has to be sent, and see to the rest."""
        while self._queue and len(self._unacked) < UNACKED_MOST and (now or self._bytes >= COMMIT_BYTES):
            self._send()
        if self._queue and self._linger is None and len(self._unacked) < UNACKED_MOST:
            loop = asyncio.get_running_loop()
            if self._busy or self._unacked:
                self._linger = loop.call_later(BUSY_SECONDS if self._busy else QUIET_SECONDS, self._lingered)
            else:  # the next run of the loop, so that requests that arrived together share a message
                self._linger = loop.call_soon(self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        self._arrange(now=True)

    def _send(self) -> None:
        if message := self._seal():
            task = asyncio.get_running_loop().create_task(self._deliver(message))
            self._unacked.add(task)
            task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._unacked.discard(task)
        self._arrange(now=not self._unacked and not self._busy)

    def _seal(self) -> Message | None:
        """One message of the blocks that wait longest. None where nobody waits for any."""
        taken = list(self._take())
        if not taken:
            return None
        parts: list[wire.Part] = []
        last, events = taken[0][0], 0
        for request, block in taken:  # one after the other: grouping them by itertools takes twice as long
            if request is not last:
                parts.append(last.part(events))
                last, events = request, 0
            events += block.events
        parts.append(last.part(events))
        self._busy = len(parts) >= BUSY_REQUESTS
        return Message(
            subject=self._subject,
            processed=self._processed,
            id=new_id(),
            events=sum(part.events for part in parts),
            content=wire.encode(parts, [block.content for _, block in taken]),
            requests=[request for request, _ in taken],
        )

    def _take(self) -> Iterator[tuple[PendingRequest, Block]]:
        """The blocks of the next message."""
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
                yield request, block
            self._bytes -= len(block.content)
            self._queue.popleft()
