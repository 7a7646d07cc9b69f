"""Messages that JetStream holds and believes to be confirmed are delivered all the same."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from nats.aio.client import Client

from collector.fetch import Fetcher
from collector.maintenance.stranded import recover_stranded, stranded
from collector.sources import SOURCES
from core.events.subjects import consumer_of, stream_of
from core.health import Readiness
from core.jetstream import stream_info
from core.lifecycle import cancel_and_wait
from core.postgres import Connection
from ops.cli.pause import pause, resume
from tests.support.collecting import balanced, collecting, drained, publish
from tests.support.events import facebook, message
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

STREAM, CONSUMER = stream_of("facebook"), consumer_of("facebook")


async def strand(nats: FreshNats, client: Client, kept: Path) -> None:
    """Give NATS the stream's messages back that it held earlier, and leave what it knows of the consumer."""
    await nats.supervisor.stop("nats")
    messages = nats.server.store / "jetstream" / "$G" / "streams" / STREAM / "msgs"
    shutil.rmtree(messages)
    shutil.copytree(kept, messages)
    await nats.supervisor.start_again("nats")

    async def back() -> bool:
        return client.is_connected

    await eventually(back, what="the client is back")
    assert (await stream_info(client, STREAM)).state.messages == 3
    info = await client.jetstream().consumer_info(STREAM, CONSUMER)
    assert (info.num_pending, info.num_ack_pending) == (0, 0), "JetStream will deliver none of them"


@pytest.mark.parametrize("stored", [False, True])
async def test_stranded_messages_are_delivered(
    database: Database,
    connection: Connection,
    fresh_nats: FreshNats,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: bool,
) -> None:
    """Whether they were stored before or not: each event is stored once, later ones too, and the ledger balances."""
    monkeypatch.setattr("collector.maintenance.stranded.EVERY_SECONDS", 0.1)
    for _ in range(3):
        await publish(client, "facebook", message(facebook()))
    kept = tmp_path / "msgs"
    shutil.copytree(fresh_nats.server.store / "jetstream" / "$G" / "streams" / STREAM / "msgs", kept)
    if stored:
        async with collecting(database, client):
            await drained(client, "facebook")
    else:
        fetcher = Fetcher(client, STREAM, "facebook", ack_wait_seconds=10, batch_rows=1)
        await fetcher.start()
        await fetcher.stop()  # the consumer stays
        subscription = await client.jetstream().pull_subscribe("events.facebook", CONSUMER, STREAM)
        for one in await subscription.fetch(3, timeout=10):
            await one.ack_sync()
    await strand(fresh_nats, client, kept)
    assert await stranded(client, SOURCES["facebook"]) == 1
    await pause(client, "facebook")
    assert await stranded(client, SOURCES["facebook"]) is None, "a pause would end with its consumer"
    await resume(client, "facebook")
    async with collecting(database, client):
        freeing = asyncio.create_task(recover_stranded(client, SOURCES["facebook"], Readiness()))
        await drained(client, "facebook")
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await cancel_and_wait([freeing])
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 4
    await balanced(connection, client)
