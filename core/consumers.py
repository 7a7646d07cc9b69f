"""The JetStream consumers that Sluice declares: one for each stream, shared by all collectors of a source.

A collector updates its consumer to the declaration when it starts, and logs the differences. Later differences are
reported by `sluice doctor` and repaired by `sluice streams apply`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy

from core.events.subjects import consumer_of, stream_of
from core.jetstream import api_request, config_drift

# Settings that do not change which messages are delivered or when. A pause is set by an operator and stays. The number
# of copies is not ignored: a consumer with fewer copies than its stream may vanish with one host.
IGNORED_SETTINGS: Final = frozenset({"name", "description", "metadata", "pause_until", "sample_freq"})
MAX_WAITING: Final = 512  # pull requests; the server's default is two for each collector

log = structlog.get_logger()


def declared_consumer(collected: str, *, ack_wait_seconds: float, batch_rows: int) -> ConsumerConfig:
    """Return the declared configuration of a consumer."""
    return ConsumerConfig(
        durable_name=consumer_of(collected),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=ack_wait_seconds,
        max_deliver=-1,
        max_waiting=MAX_WAITING,
        max_ack_pending=4 * batch_rows,  # counts messages, and a message may contain a single event
    )


async def consumer_drift(client: Client, collected: str, declared: ConsumerConfig) -> list[str]:
    """Return how the consumer differs from its declaration, one sentence each.

    Raises NotFoundError, and the errors of nats-py.
    """
    actual = await api_request(client, f"CONSUMER.INFO.{stream_of(collected)}.{declared.durable_name}")
    return config_drift(declared, actual["config"], IGNORED_SETTINGS)


async def ensure_consumer(client: Client, collected: str, declared: ConsumerConfig) -> None:
    """Create the consumer if it is missing; otherwise update it to its declaration.

    Settings that JetStream cannot change in an existing consumer are logged and left. Raises the errors of nats-py.
    """
    js = client.jetstream()
    try:
        drift = await consumer_drift(client, collected, declared)
    except nats.js.errors.NotFoundError:
        await js.add_consumer(stream_of(collected), declared)
        return
    if not drift:
        return
    log.warning("consumer settings drift", stream=stream_of(collected), consumer=declared.durable_name, drift=drift)
    try:
        await apply_consumer(client, collected, declared)
    except nats.js.errors.APIError as error:
        log.warning("consumer not updated", stream=stream_of(collected), error=error.description)


async def apply_consumer(client: Client, collected: str, declared: ConsumerConfig) -> None:
    """Update an existing consumer to its declaration, except its pause. Raises APIError if JetStream rejects the
    update."""
    name = f"{stream_of(collected)}.{declared.durable_name}"
    actual = (await api_request(client, f"CONSUMER.INFO.{name}"))["config"]
    config = {key: actual[key] for key in IGNORED_SETTINGS & actual.keys()} | msgspec.to_builtins(declared.as_dict())
    await api_request(
        client, f"CONSUMER.DURABLE.CREATE.{name}", {"stream_name": stream_of(collected), "config": config}
    )
