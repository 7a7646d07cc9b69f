"""A body at the gateway, without a server: what the gateway would accept of it, and what it would reject and keep.

Every body is read by Python alone and, where the native module is built, with its help: what becomes of it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from core.events import rejected
from core.events.contract import Contract, Reason
from core.events.rejected import RejectedEvent
from gateway import native
from gateway.admission import Admission
from gateway.batch import Batch
from gateway.body import BodyFormat
from gateway.decode import SMALLEST_EVENT_BYTES, Decoder
from gateway.rejection import Rejected
from tests.support.events import Event, encoded, microseconds

MAX_BODY_BYTES = 64 * 1024 * 1024
CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
READER = native.reader(CONTRACT)
ALONE = Admission(0).reserve(0)
"""Room without bounds: a request that is alone has it."""


async def read(content: bytes, body_format: BodyFormat = BodyFormat.JSON, *, at: datetime | None = None) -> Batch:
    """What becomes of a body that arrives now, or at `at`. Raises Rejected."""
    received = microseconds(at)
    batch = await _outcome(content, body_format, received, None)
    if READER:
        natively = await _outcome(content, body_format, received, READER)
        assert _shown(natively) == _shown(batch)
    if isinstance(batch, Rejected):
        raise batch
    return batch


async def _outcome(
    content: bytes, body_format: BodyFormat, received: int, reader: native.Reader | None
) -> Batch | Rejected:
    decode = Decoder(CONTRACT, max_events=MAX_BODY_BYTES // SMALLEST_EVENT_BYTES, reader=reader)
    try:
        return await decode(content, body_format, received, ALONE)
    except Rejected as error:
        return error


def _shown(outcome: Batch | Rejected) -> Any:
    """All that there is to see of it, however its blocks are cut."""
    if isinstance(outcome, Rejected):
        return outcome.rejection, str(outcome)
    blocks = {
        source: (sum(block.events for block in blocks), b"\n".join(block.content for block in blocks))
        for source, blocks in outcome.blocks.items()
    }
    kept = (outcome.kept, outcome.kept_events, outcome.kept_bytes)
    return outcome.events, outcome.accepted, blocks, outcome.reasons, outcome.errors, kept


async def read_array(*events: Event | bytes, at: datetime | None = None) -> Batch:
    """What becomes of an array of these events. Raises Rejected."""
    return await read(b"[" + b",".join(map(encoded, events)) + b"]", at=at)


def accepted(batch: Batch) -> dict[str, list[bytes]]:
    """The events that would be published, by source, in their order."""
    return {
        source: [line for block in blocks for line in block.content.split(b"\n")]
        for source, blocks in batch.blocks.items()
        if blocks
    }


def kept(batch: Batch) -> list[RejectedEvent]:
    """The copies of rejected events that would go to the stream REJECTED."""
    return [rejected.decode(block.content) for blocks in batch.kept.values() for block in blocks]


def reasons(batch: Batch) -> Sequence[tuple[int, Reason, str]]:
    """Index, reason and path of each rejected event that the answer lists."""
    return [(errors.index, errors.reason, errors.path) for errors in batch.errors]
