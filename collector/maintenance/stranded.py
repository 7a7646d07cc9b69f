"""Free messages that JetStream has stranded: the stream holds them, and its consumer will not deliver them.

    first message behind the consumer's floor, or delivered and not pending, twice in a row
        --> consumer deleted --> made again --> all delivered

A server that lost a write (its disk was full, its power was cut) may hold a message and believe that it was confirmed.
A consumer whose `max_deliver` was changed drops a message that was delivered so often, also after it is changed back.
Nobody is given such a message any more, and the watermark stands still at it for ever. A new consumer is given all that
the stream holds; receipts make harmless what was stored before. Fetchers make a consumer that is missing. A pause would
end with its consumer: while it lasts, nothing is freed.
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
    """Look for stranded messages of a source for ever."""
    suspect: int | None = None

    async def free() -> None:
        nonlocal suspect
        found = await stranded(client, source)
        if found is not None and found == suspect:  # one that was confirmed a moment ago is gone by now
            await client.jetstream().delete_consumer(source.stream, consumer_of(source.name))
            metrics.stranded.labels(source.name).inc()
            log.error("message stranded: its consumer is made again", stream=source.stream, sequence=found)
        suspect = found

    await periodically(metrics.step(source.name, "stranded", readiness), free, EVERY_SECONDS)


async def stranded(client: Client, source: Source) -> int | None:
    """The sequence of the stream's first message, if its consumer will not deliver it and is not paused.

    While other messages are pending, a dropped one looks like them. Once none is pending, JetStream counts it either as
    confirmed, or as delivered and not pending.
    """
    state = (await stream_info(client, source.stream)).state
    if not state.messages:
        return None
    consumer = await client.jetstream().consumer_info(source.stream, consumer_of(source.name))
    confirmed = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    delivered = consumer.delivered.stream_seq if consumer.delivered and not consumer.num_ack_pending else 0
    return state.first_seq if state.first_seq <= max(confirmed, delivered) and not consumer.paused else None
