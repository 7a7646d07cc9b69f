"""The consumers that Sluice declares: one a stream, which all collectors of a source share.

A collector brings its consumer to the declaration when it starts, and logs what differed. What differs later is
reported by `python -m ops doctor` and repaired by `python -m ops streams apply`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy

from core.events.subjects import consumer_of, stream_of
from core.jetstream import ask, unlike

# What does not change which messages are delivered or when. A pause is an operator's, and stays.
FREE: Final = frozenset({"name", "description", "metadata", "pause_until", "sample_freq", "num_replicas"})
MAX_WAITING: Final = 512  # pulls; the server's default, two a collector

log = structlog.get_logger()


def declared_consumer(collected: str, *, ack_wait_seconds: float, batch_rows: int) -> ConsumerConfig:
    """The consumer as it has to be."""
    return ConsumerConfig(
        durable_name=consumer_of(collected),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=ack_wait_seconds,
        max_deliver=-1,
        max_waiting=MAX_WAITING,
        max_ack_pending=4 * batch_rows,  # counts messages, and a message may hold a single event
    )


async def consumer_drift(client: Client, collected: str, wanted: ConsumerConfig) -> list[str]:
    """What the consumer has otherwise than declared, a sentence each. Raises NotFoundError, and what nats-py raises."""
    found = await ask(client, f"CONSUMER.INFO.{stream_of(collected)}.{wanted.durable_name}")
    return unlike(wanted, found["config"], FREE)


async def ensure_consumer(client: Client, collected: str, wanted: ConsumerConfig) -> None:
    """Make the consumer where it is missing, and bring an existing one to its declaration.

    What JetStream does not change in an existing consumer is logged and left. Raises what nats-py raises.
    """
    js = client.jetstream()
    try:
        drift = await consumer_drift(client, collected, wanted)
    except nats.js.errors.NotFoundError:
        await js.add_consumer(stream_of(collected), wanted)
        return
    if not drift:
        return
    log.warning("consumer settings drift", stream=stream_of(collected), consumer=wanted.durable_name, drift=drift)
    try:
        await apply_consumer(client, collected, wanted)
    except nats.js.errors.APIError as error:
        log.warning("the consumer stays as it is", stream=stream_of(collected), error=error.description)


async def apply_consumer(client: Client, collected: str, wanted: ConsumerConfig) -> None:
    """Change an existing consumer to its declaration; its pause stays. Raises APIError where JetStream rejects."""
    name = f"{stream_of(collected)}.{wanted.durable_name}"
    found = (await ask(client, f"CONSUMER.INFO.{name}"))["config"]
    config = {key: found[key] for key in FREE & found.keys()} | msgspec.to_builtins(wanted.as_dict())
    await ask(client, f"CONSUMER.DURABLE.CREATE.{name}", {"stream_name": stream_of(collected), "config": config})
