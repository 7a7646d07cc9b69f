"""Keep what is refused in the stream REFUSED: copies of refused events, and bodies that are refused as a whole.

Invariant: it never fails a request. What no copy is kept of is counted by its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from core.errors import StreamFull, TryAgain
from core.events.refused import encode, refused_body
from core.events.subjects import Source
from gateway import metrics
from gateway.admission import Hold
from gateway.batch import RECORD_BYTES, Batch, Block
from gateway.correlation import Origin
from gateway.publish import Publisher
from gateway.refusal import NotKept, Refusal

# Refused events are worth waiting for, but not as long as accepted ones.
KEEP_SECONDS: Final = 5.0
HASH_INLINE_BYTES: Final = 1024 * 1024  # some 1 ms; a thread hashes more

log = structlog.get_logger()


class RefusedStore:
    """Keeps what one worker refuses."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def keep_events(self, origin: Origin, batch: Batch) -> None:
        """Keep the refused events of a batch, as far as there was room for copies."""
        if left_out := batch.refused_events - batch.kept_events:
            metrics.unkept[NotKept.NO_ROOM if batch.no_room else NotKept.TOO_MANY].inc(left_out)
        await self._publish(origin, batch.kept, batch.kept_events)

    async def keep_body(self, origin: Origin, content: bytes, refusal: Refusal, detail: str, hold: Hold) -> None:
        """Keep a body that is refused whole, as far as refused events are kept."""
        if len(content) > HASH_INLINE_BYTES:
            record = await asyncio.to_thread(refused_body, content, refusal.value, detail)
        else:
            record = refused_body(content, refusal.value, detail)
        line = encode(record)
        if hold.spare(len(line) + RECORD_BYTES):
            await self._publish(origin, {None: [Block(1, line)]}, 1)
        else:
            metrics.unkept[NotKept.NO_ROOM].inc()

    async def _publish(self, origin: Origin, records: Mapping[Source | None, list[Block]], count: int) -> None:
        try:
            await self._publisher.publish_refused(origin, records, KEEP_SECONDS)
        except TryAgain as error:
            metrics.unkept[NotKept.STREAM_FULL if isinstance(error, StreamFull) else NotKept.UNREACHABLE].inc(count)
            log.warning(
                "refused events not kept", correlation_id=origin.correlation_id, events=count, error=repr(error)
            )
