"""Publish rejected events, and bodies rejected as a whole, to the stream REJECTED.

Invariant: this never fails a request. An event or body that is not kept is counted with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from core.errors import RetryableError, StreamFull
from core.events.rejected import encode, rejected_body
from core.sources import SourceName
from gateway import metrics
from gateway.admission import Reservation
from gateway.batch import RECORD_BYTES, Batch, Block
from gateway.correlation import Origin
from gateway.publish import Publisher
from gateway.rejection import NotKept, Rejection

# Shorter than the time-out for accepted events.
KEEP_SECONDS: Final = 5.0
HASH_INLINE_BYTES: Final = 1024 * 1024  # takes 1 ms; larger bodies are hashed in a thread

log = structlog.get_logger()


class RejectedStore:
    """Keep rejected events and bodies of one worker."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def keep_events(self, origin: Origin, batch: Batch) -> None:
        """Keep the rejected events of a batch, within the limits."""
        if left_out := batch.rejected_events - batch.kept_events:
            metrics.not_kept[NotKept.NO_ROOM if batch.no_room else NotKept.TOO_MANY].inc(left_out)
        await self._publish(origin, batch.kept, batch.kept_events)

    async def keep_body(
        self, origin: Origin, content: bytes, rejection: Rejection, detail: str, reservation: Reservation
    ) -> None:
        """Keep a body that is rejected as a whole, within the limits for rejected events."""
        if len(content) > HASH_INLINE_BYTES:
            record = await asyncio.to_thread(rejected_body, content, rejection.value, detail)
        else:
            record = rejected_body(content, rejection.value, detail)
        line = encode(record)
        if reservation.try_reserve(len(line) + RECORD_BYTES):
            await self._publish(origin, {None: [Block(1, line)]}, 1)
        else:
            metrics.not_kept[NotKept.NO_ROOM].inc()

    async def _publish(self, origin: Origin, records: Mapping[SourceName | None, list[Block]], count: int) -> None:
        try:
            await self._publisher.publish_rejected(origin, records, KEEP_SECONDS)
        except RetryableError as error:
            metrics.not_kept[NotKept.STREAM_FULL if isinstance(error, StreamFull) else NotKept.UNREACHABLE].inc(count)
            log.warning(
                "rejected events not kept", correlation_id=origin.correlation_id, events=count, error=repr(error)
            )
