"""Compare streams and consumers with their declarations, and change them to match.

Services create a missing stream and never change an existing one: an operator decides that. Collectors create a missing
consumer, so a missing consumer is not drift.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from collector.settings import CollectorSettings
from core.consumers import apply_consumer, consumer_drift, declared_consumer
from core.errors import SluiceError
from core.events.subjects import COLLECTED, consumer_of, stream_of
from core.jetstream import StreamInfo, api_request, declared_streams, stream_config, stream_drift, stream_info

SUBJECTS: Final = ("events.>", "rejected.>", "refused.>")
"""Subjects of this version and of the one before, which published rejected events to the stream REFUSED."""


class Stream(NamedTuple):
    """A declared stream with its consumer; info is None if the stream does not exist. Each difference is a sentence."""

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


async def undeclared(client: Client) -> list[tuple[str, int]]:
    """Return the streams that take subjects of Sluice and are not declared, each with its number of messages."""
    declared = set(map(stream_of, COLLECTED))
    names = [
        name
        for subject in SUBJECTS
        for name in (await api_request(client, "STREAM.NAMES", {"subject": subject}))["streams"] or ()
        if name not in declared
    ]
    return [(name, (await stream_info(client, name)).state.messages) for name in dict.fromkeys(names)]


async def read(client: Client, settings: CollectorSettings) -> list[Stream]:
    """Return all declared streams. `settings` are those of the collectors."""
    streams = []
    for collected, wanted in zip(COLLECTED, declared_streams(settings), strict=True):
        name = str(wanted.name)
        try:
            config = await stream_config(client, name)
        except nats.js.errors.NotFoundError:
            streams.append(Stream(collected, wanted, None, ["does not exist"], []))
            continue
        info = await stream_info(client, name)
        drift = await _consumer_drift(client, collected, settings)
        streams.append(Stream(collected, wanted, info, stream_drift(wanted, config), drift))
    return streams


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
    """Change a stream and its consumer to match the declaration. Raises SluiceError if JetStream rejects the change."""
    js = client.jetstream()
    try:
        if stream.stream_drift:
            await (js.add_stream(stream.wanted) if stream.info is None else js.update_stream(stream.wanted))
    except nats.js.errors.APIError as error:
        raise SluiceError(
            f"JetStream cannot change {stream.name} in place: {error.description}. Stop the gateways, store what waits "
            f"(sluice drain), delete the stream (nats stream rm {stream.name}), and run this command again"
        ) from error
    try:
        if stream.consumer_drift:
            await apply_consumer(client, stream.collected, _consumer(stream.collected, settings))
    except nats.js.errors.APIError as error:
        consumer = consumer_of(stream.collected)
        raise SluiceError(
            f"JetStream cannot change {consumer} of {stream.name} in place: {error.description}. Delete it "
            f"(nats consumer rm {stream.name} {consumer}): collectors create it again, and no event is stored twice"
        ) from error
