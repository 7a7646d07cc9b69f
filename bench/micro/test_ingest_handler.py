"""Cost of an event in the gateway: decoding, and publishing to a real NATS that syncs each message.

    python -m pytest bench/micro/test_ingest_handler.py

Weakness: one request at a time, so no group commit: `bench.single_post` measures that.
"""

import asyncio
from random import Random
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.conftest import Stack
from bench.publisher.bodies import Bodies
from core import jetstream
from core.events.contract import Contract
from gateway.admission import Admission
from gateway.batch import Batch, Block
from gateway.body import BodyFormat
from gateway.correlation import origin
from gateway.decode import Decoder
from gateway.publish import Publisher
from gateway.settings import GatewaySettings

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
EVENT_BYTES = 425


@pytest.mark.parametrize("events", [1, 100, 25_000])
def test_decode(benchmark: BenchmarkFixture, events: int) -> None:
    """Decode a body into blocks that are ready to be published."""
    content = Bodies("micro", corrupt_share=0).body(events).content
    decode = Decoder(CONTRACT, max_events=1_000_000)
    came = origin({})
    reservation = Admission(0).reserve(0)
    with asyncio.Runner() as runner:

        async def read() -> Batch:
            return await decode(content, BodyFormat.JSON, came.received, reservation)

        batch = benchmark(lambda: runner.run(read()))
    assert batch.accepted_events == events
    benchmark.extra_info["events"] = events


@pytest.mark.parametrize("size", [EVENT_BYTES, 128 * 1024, 512 * 1024 - 1])
def test_publish(benchmark: BenchmarkFixture, stack: Stack, size: int) -> None:
    """Publish a block of `size` bytes, and wait for its PubAck."""
    content, came = Random(size).randbytes(size).replace(b"\n", b" "), origin({})

    async def serving() -> tuple[Publisher, Any]:
        client = await jetstream.connect(stack.servers.nats_url, name="bench")
        await jetstream.ensure_streams(client, GatewaySettings())
        publisher = Publisher()
        await publisher.use_connection(client)
        return publisher, client

    publisher, client = stack.runner.run(serving())

    async def publish() -> None:
        await publisher.publish(came, {"facebook": [Block(1, content)]}, 30)

    benchmark(lambda: stack.runner.run(publish()))
    stack.runner.run(client.close())
    benchmark.extra_info["bytes"] = size
