"""The streams and their consumers as they are, beside the declared ones, and what repairs the difference.

Services make a stream that is missing and never change one that stands: that is for a person to decide, here.
Collectors make a consumer that is missing, too: it is no drift.
"""

from __future__ import annotations

from typing import NamedTuple

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from collector.settings import CollectorSettings
from core.consumers import apply_consumer, consumer_drift, declared_consumer
from core.errors import SluiceError
from core.events.subjects import COLLECTED, consumer_of
from core.jetstream import StreamInfo, declared_streams, stream_config, stream_drift, stream_info


class Stream(NamedTuple):
    """One declared stream with its consumer; info is None where it is missing. What differs is a sentence each."""

    collected: str
    wanted: StreamConfig
    info: StreamInfo | None
    stream_drift: list[str]
    consumer_drift: list[str]

    @property
    def name(self) -> str:
        return str(self.wanted.name)

    @property
    def drift(self) -> list[str]:
        return self.stream_drift + [f"consumer {consumer_of(self.collected)}: {what}" for what in self.consumer_drift]


async def read(client: Client, settings: CollectorSettings) -> list[Stream]:
    """All declared streams. `settings` are the collectors'."""
    found = []
    for collected, wanted in zip(COLLECTED, declared_streams(settings), strict=True):
        name = str(wanted.name)
        try:
            config = await stream_config(client, name)
        except nats.js.errors.NotFoundError:
            found.append(Stream(collected, wanted, None, ["is missing"], []))
            continue
        info = await stream_info(client, name)
        drift = await _consumer_drift(client, collected, settings)
        found.append(Stream(collected, wanted, info, stream_drift(wanted, config), drift))
    return found


async def _consumer_drift(client: Client, collected: str, settings: CollectorSettings) -> list[str]:
    try:
        return await consumer_drift(client, collected, _consumer(collected, settings))
    except nats.js.errors.NotFoundError:
        return []


def _consumer(collected: str, settings: CollectorSettings) -> ConsumerConfig:
    return declared_consumer(
        collected, ack_wait_seconds=settings.collector_ack_wait_seconds, batch_rows=settings.collector_batch_rows
    )


async def apply(client: Client, stream: Stream, settings: CollectorSettings) -> None:
    """Make a stream and its consumer as declared. Raises SluiceError for what JetStream does not change."""
    js = client.jetstream()
    try:
        if stream.stream_drift:
            await (js.add_stream(stream.wanted) if stream.info is None else js.update_stream(stream.wanted))
    except nats.js.errors.APIError as error:
        raise SluiceError(
            f"{stream.name} cannot be changed while it stands: {error.description}. Stop the gateways, drain it "
            f"(python -m ops drain), delete it (nats stream rm {stream.name}), and run this again: it is made anew"
        ) from error
    try:
        if stream.consumer_drift:
            await apply_consumer(client, stream.collected, _consumer(stream.collected, settings))
    except nats.js.errors.APIError as error:
        consumer = consumer_of(stream.collected)
        raise SluiceError(
            f"JetStream does not change {consumer} of {stream.name}: {error.description}. Delete it "
            f"(nats consumer rm {stream.name} {consumer}): collectors make it anew, and nothing is stored twice"
        ) from error
