"""Recover stranded messages: the stream holds them, but its consumer does not deliver them.

    first message below the consumer's floor, or delivered and not pending, twice in a row
        --> consumer deleted --> recreated --> all delivered

A server that lost a write (disk full, power cut) may hold a message and consider it acknowledged. A consumer whose
`max_deliver` was changed drops a message that was delivered that often, even after the setting is changed back. Then no
collector receives the message, and the watermark never passes it.

A new consumer delivers all messages of the stream; receipts prevent that a stored message is stored again. Fetchers
recreate a missing consumer. Deleting a consumer would end its pause, so nothing is recovered during a pause.
"""

from __future__ import annotations

from typing import Final

import structlog
from nats.aio.client import Client

from collector import metrics
from collector.sources.source import Source
from core.events.subjects import consumer_of
from core.health import Readiness
from core.jetstream import stream_info
from core.periodic import periodically

EVERY_SECONDS: Final = 5.0
log = structlog.get_logger()


async def recover_stranded(client: Client, source: Source, readiness: Readiness) -> None:
    """Check a source for stranded messages every EVERY_SECONDS, until cancelled."""
    suspect: int | None = None

    async def recover() -> None:
        nonlocal suspect
        sequence = await stranded(client, source)
        if sequence is not None and sequence == suspect:  # a message acknowledged just before is deleted by now
            await client.jetstream().delete_consumer(source.stream, consumer_of(source.name))
            metrics.stranded.labels(source.name).inc()
            log.error("consumer deleted: message stranded", stream=source.stream, sequence=sequence)
        suspect = sequence

    await periodically(metrics.step(source.name, "stranded", readiness), recover, EVERY_SECONDS)


async def stranded(client: Client, source: Source) -> int | None:
    """Return the sequence of the stream's first message, if its consumer will not deliver it and is not paused.

    While other messages are pending, a dropped message looks the same as them. When none is pending, JetStream
    counts it as acknowledged, or as delivered and not pending.
    """
    state = (await stream_info(client, source.stream)).state
    if not state.messages:
        return None
    consumer = await client.jetstream().consumer_info(source.stream, consumer_of(source.name))
    acknowledged = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    delivered = consumer.delivered.stream_seq if consumer.delivered and not consumer.num_ack_pending else 0
    return state.first_seq if state.first_seq <= max(acknowledged, delivered) and not consumer.paused else None
