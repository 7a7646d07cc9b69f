"""Group commit: combine the events of concurrent requests into messages, one queue a subject.

    blocks of requests --queue--> sealed message --> deliver
        quiet: at once if nothing is unacknowledged, otherwise after 2 ms or 256 KiB
        busy (the last message had 8 or more requests): after 8 ms or 256 KiB

Invariants: blocks of one request are sent in order. A sealed message never changes; its id is random and unique. A
block of a request that has already failed is not sent.
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
from gateway.metrics import BufferedCounter

SEAL_PARTS: Final = 500
MAX_MESSAGE_BYTES: Final = SEAL_BYTES + SEAL_PARTS * 512  # including the first line, which lists the parts
SEND_BYTES: Final = 256 * 1024  # if this much is queued, send at once
QUIET_SECONDS: Final = 0.002
# A message costs NATS and the gateway some 0.4 ms of CPU, most of it for the fsync. With hundreds of connections that
# post single events, waiting saves more than it costs. A longer wait delays senders that wait for each response.
BUSY_SECONDS: Final = 0.008
BUSY_REQUESTS: Final = 8
MAX_UNACKED: Final = 8  # unacknowledged messages of one subject; JetStream writes them one after the other


class PendingRequest:
    """A request that waits at most `seconds` until all its blocks are stored."""

    __slots__ = ("_seconds", "_unstored_blocks", "done", "origin", "until")

    def __init__(self, origin: Origin, blocks: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.origin = origin
        self.until = loop.time() + seconds
        self.done: asyncio.Future[None] = loop.create_future()
        self._unstored_blocks = blocks
        self._seconds = seconds

    def part(self, events: int) -> wire.Part:
        """Return the part of a message that contains this number of events of this request."""
        return wire.Part(self.origin.correlation_id, self.origin.traceparent, self.origin.received_at, events)

    def count_stored_block(self) -> None:
        """Count one stored block. After the last one the request succeeds."""
        self._unstored_blocks -= 1
        if not self._unstored_blocks and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: RetryableError) -> None:
        """Fail the request, unless it is done."""
        if not self.done.done():
            # Without the traceback: its frames hold the message, and the message holds this request.
            self.done.set_exception(error.with_traceback(None))

    def time_out(self) -> None:
        """Fail the request with StreamUnreachable."""
        self.fail(StreamUnreachable(f"no PubAck arrived within {self._seconds:g} seconds"))


class Message(NamedTuple):
    """A sealed message. `requests` has one entry for each block. `processed` counts the events after the PubAck."""

    subject: str
    processed: BufferedCounter | None
    id: str
    events: int
    content: bytes
    requests: Sequence[PendingRequest]

    def is_awaited(self) -> bool:
        """Return whether any request still waits for this message."""
        return any(not request.done.done() for request in self.requests)

    def confirm(self) -> None:
        """Count the events and notify the requests, because the PubAck arrived."""
        if self.processed is not None:
            self.processed.inc(self.events)
        for request in self.requests:
            request.count_stored_block()

    def fail(self, error: RetryableError) -> None:
        """Fail the requests of this message, because it will not be stored."""
        for request in self.requests:
            request.fail(error)


class SubjectBatcher:
    """The queue of one subject. `deliver` publishes a message and notifies its requests.

    `processed`, if given, counts the stored events.
    """

    def __init__(
        self,
        subject: str,
        deliver: Callable[[Message], Coroutine[Any, Any, None]],
        processed: BufferedCounter | None = None,
    ) -> None:
        self._subject = subject
        self._processed = processed
        self._deliver = deliver
        self._queue: deque[tuple[PendingRequest, Block]] = deque()
        self._bytes = 0
        self._unacked: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._busy = False

    def add(self, request: PendingRequest, blocks: Sequence[Block]) -> None:
        """Queue these blocks for publishing."""
        for block in blocks:
            self._queue.append((request, block))
            self._bytes += len(block.content)
        if self._timer is None or self._bytes >= SEND_BYTES:
            self._flush()

    def _flush(self, *, now: bool = False) -> None:
        """Send what is due and schedule the rest."""
        while self._queue and len(self._unacked) < MAX_UNACKED and (now or self._bytes >= SEND_BYTES):
            self._send()
        if self._queue and self._timer is None and len(self._unacked) < MAX_UNACKED:
            loop = asyncio.get_running_loop()
            if self._busy or self._unacked:
                self._timer = loop.call_later(BUSY_SECONDS if self._busy else QUIET_SECONDS, self._timer_fired)
            else:  # in the next loop iteration, so that requests that arrived together share a message
                self._timer = loop.call_soon(self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._flush(now=True)

    def _send(self) -> None:
        if message := self._seal():
            task = asyncio.get_running_loop().create_task(self._deliver(message))
            self._unacked.add(task)
            task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._unacked.discard(task)
        self._flush(now=not self._unacked and not self._busy)

    def _seal(self) -> Message | None:
        """Return a message of the oldest blocks, or None if no request still waits for a block."""
        blocks = list(self._take_blocks())
        if not blocks:
            return None
        parts: list[wire.Part] = []
        last, events = blocks[0][0], 0
        for request, block in blocks:  # a plain loop: itertools.groupby takes twice as long
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
            content=wire.encode(parts, [block.content for _, block in blocks]),
            requests=[request for request, _ in blocks],
        )

    def _take_blocks(self) -> Iterator[tuple[PendingRequest, Block]]:
        """Remove the blocks of the next message from the queue and yield them. Drop blocks of requests that failed."""
        remaining_bytes, remaining_parts = SEAL_BYTES, SEAL_PARTS
        last = None
        while self._queue:
            request, block = self._queue[0]
            if not request.done.done():
                remaining_bytes -= len(block.content) + 1
                remaining_parts -= request is not last
                if last and (remaining_bytes < 0 or remaining_parts < 0):
                    return
                last = request
                yield request, block
            self._bytes -= len(block.content)
            self._queue.popleft()
