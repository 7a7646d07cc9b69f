"""The watermark: up to when everything published is stored. It may be stale, and is never wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client

from collector.maintenance import watermark
from collector.maintenance.watermark import advance_watermark
from collector.sources import SOURCES
from core import postgres, state
from core.events.subjects import GATEWAY_STATE_SUBJECT
from core.health import Readiness
from core.jetstream import stream_info
from core.lifecycle import cancel_and_wait
from core.postgres import Connection
from ops.cli.pause import pause
from sql import statements
from tests.support.collecting import blocked, collecting, connected, drained, publish, publish_all
from tests.support.events import facebook, message
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually


@asynccontextmanager
async def keeping(client: Client, database: Database, source: str = "facebook") -> AsyncIterator[asyncio.Task[None]]:
    """The task that writes the watermark."""
    task = asyncio.create_task(advance_watermark(client, database.collector_dsn, SOURCES[source], Readiness()))
    try:
        yield task
    finally:
        await cancel_and_wait([task])


async def until(connection: Connection) -> datetime | None:
    moment: datetime | None = await connection.fetchval("SELECT stored_until FROM watermarks WHERE source = 'facebook'")
    return moment


async def advanced(connection: Connection, past: datetime) -> None:
    """Wait until the watermark is past this instant."""

    async def past_it() -> bool:
        moment = await until(connection)
        return moment is not None and moment > past

    await eventually(past_it, what=f"the watermark is past {past}", seconds=5)


async def test_nothing_is_claimed_that_is_not_stored(
    database: Database,
    connection: Connection,
    fresh_nats: FreshNats,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whenever it is read, while events flow, every message published before the watermark has its receipt."""
    monkeypatch.setattr(watermark, "EVERY_SECONDS", 0.0)  # as many instants as there can be
    samples: list[tuple[datetime, set[int]]] = []
    async with (
        connected(fresh_nats) as telling,
        connected(fresh_nats) as publishing,
        collecting(database, client, batch_rows=50),
        keeping(telling, database),
    ):
        sending = asyncio.create_task(_trickle(publishing))
        while not sending.done():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                claimed = await until(connection)
                stored = await connection.fetch("SELECT stream_sequence FROM receipts")
            if claimed is not None:
                samples.append((claimed, {row["stream_sequence"] for row in stored}))
            await asyncio.sleep(0)
        await drained(client, "facebook")
    published = {
        row["stream_sequence"]: row["published_at"]
        for row in await connection.fetch("SELECT stream_sequence, published_at FROM receipts")
    }
    assert len(published) == 1_000
    assert len({claimed for claimed, _ in samples}) > 50
    wrong = [
        (claimed, sequence)
        for claimed, stored in samples
        for sequence, at in published.items()
        if at < claimed and sequence not in stored
    ]
    assert wrong == []


async def _trickle(client: Client) -> None:
    """A thousand messages, a few at a time, so that the stream is empty again and again."""
    for _ in range(200):
        await publish_all(client, "facebook", [message(facebook()) for _ in range(5)])
        await asyncio.sleep(0.005)  # a rate, not a wait


async def test_an_earlier_answers_instant_can_be_trusted(fresh_nats: FreshNats, client: Client) -> None:
    """Every message that an answer's state does not hold is younger than the answer before it, however busy the server.

    It is often older than the answer itself, whose instant is taken after its state.
    """
    stop = asyncio.Event()

    async def publish_all_the_time() -> None:
        async with connected(fresh_nats) as publishing:
            while not stop.is_set():
                await publish_all(publishing, "facebook", [b"x"] * 20)

    sending = [asyncio.create_task(publish_all_the_time()) for _ in range(2)]
    answers = [await stream_info(client, "EVENTS_FACEBOOK") for _ in range(400)]
    stop.set()
    await asyncio.gather(*sending)
    await publish(client, "facebook", b"x")  # so that the last answer has a message after it
    for earlier, answer in itertools.pairwise(answers):
        following = await client.jetstream().get_msg("EVENTS_FACEBOOK", answer.state.last_seq + 1)
        assert following.time is not None
        assert following.time >= earlier.ts


async def test_it_follows_the_clock_where_nothing_waits(
    database: Database, connection: Connection, client: Client
) -> None:
    """Of an empty stream everything is stored up to now, by JetStream's clock."""
    async with keeping(client, database):
        for _ in range(2):
            now = (await stream_info(client, "EVENTS_FACEBOOK")).ts
            await advanced(connection, now)
    assert await connection.fetchval("SELECT pending_messages FROM watermarks") == 0


async def test_it_stands_at_the_oldest_message_that_waits(
    database: Database, connection: Connection, client: Client
) -> None:
    """While the database holds up storing, the watermark stays before the oldest message, and reports how many wait."""
    async with keeping(client, database), collecting(database, client):
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        async with blocked(database) as until_it_stands:
            await publish_all(client, "facebook", [message(facebook())] * 20)
            await until_it_stands()
            oldest = (await stream_info(client, "EVENTS_FACEBOOK")).state.first_ts

            async def reported() -> bool:
                return bool(await connection.fetchval("SELECT pending_messages = 20 FROM watermarks"))

            await eventually(reported, what="twenty messages are reported to wait")
            claimed = await until(connection)
            assert claimed is not None
            assert claimed <= oldest
        await drained(client, "facebook")
        await advanced(connection, oldest)


async def test_it_goes_stale_where_collectors_are_dead(
    database: Database, connection: Connection, client: Client
) -> None:
    """Without a collector the watermark stands still, whatever is published; it goes on when one is back."""
    async with keeping(client, database), collecting(database, client):
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await advanced(connection, datetime.now(UTC) - timedelta(minutes=1))
    stale = await until(connection)
    await publish(client, "facebook", message(facebook()))
    assert await until(connection) == stale
    async with keeping(client, database), collecting(database, client):
        assert stale is not None
        await advanced(connection, stale + timedelta(milliseconds=1))
        await drained(client, "facebook")


async def test_it_only_ever_goes_forward(database: Database, connection: Connection) -> None:
    """Several collectors write it: an older word never takes a newer one's place."""
    advance = statements("maintenance")["advance_watermark"]
    now = datetime.now(UTC)
    for moment, pending in ((now, 1), (now - timedelta(seconds=5), 9), (now + timedelta(seconds=1), 2)):
        await connection.execute(advance, "facebook", moment, pending)
        await connection.execute(advance, "tiktok", moment, pending)
    rows = await connection.fetch("SELECT stored_until, pending_messages FROM watermarks")
    assert [tuple(row) for row in rows] == [(now + timedelta(seconds=1), 2)] * 2


async def test_it_outlives_its_servers(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """A session that is ended and a NATS server that restarts make it late, nothing else."""
    async with keeping(client, database) as task:
        await advanced(connection, datetime.now(UTC) - timedelta(minutes=1))
        superuser_like = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice-watermark'"
        )
        collector = await postgres.connect(database.collector_dsn, name="tests")
        await collector.fetch(superuser_like)
        await collector.close()
        await advanced(connection, (await stream_info(client, "EVENTS_FACEBOOK")).ts)
        pid = fresh_nats.supervisor.kill("nats")
        await fresh_nats.supervisor.wait_ready("nats", after=pid)
        await advanced(connection, datetime.now(UTC))
        assert not task.done()


async def test_rejected_events_have_no_watermark(database: Database, connection: Connection, client: Client) -> None:
    """No report is made of rejected events: their task reports the metrics alone."""
    async with keeping(client, database, "rejected") as task:
        await publish(client, "rejected", message(b"{}"))

        async def requested() -> bool:
            sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice-watermark'"
            return bool(await connection.fetchval(sessions))

        await eventually(requested, what="the task has connected")
        assert not task.done()
    assert await connection.fetchval("SELECT count(*) FROM watermarks") == 0


async def test_the_state_of_a_source_is_reported(database: Database, connection: Connection, client: Client) -> None:
    """Fullness, pause and why a collector stopped are in the database; what gateways turned away as well, and what is
    not reported any more goes stale."""
    stopped = {"rejected": "", "facebook": "no rights"}
    async with collecting(database, client), AsyncExitStack() as opened:
        for name, why in stopped.items():
            readiness = Readiness()
            if why:
                readiness.set_not_ready("collecting", why)
            task = asyncio.create_task(advance_watermark(client, database.collector_dsn, SOURCES[name], readiness))
            opened.push_async_callback(cancel_and_wait, [task])
        await pause(client, "facebook")

        async def written() -> bool:
            await client.publish(GATEWAY_STATE_SUBJECT, b"3")
            found, gateways = await state.read_sources(connection), await state.read_gateways(connection)
            facebook = found.get("facebook")
            return bool(
                facebook and facebook["paused"] and facebook["stopped"] == "no rights" and facebook["stream_max_bytes"]
                and gateways.turned_away >= 3 and not gateways.no_report
            )  # fmt: skip

        await eventually(written, what="the state is in the database", seconds=20)
    await connection.execute("UPDATE source_states SET stopped_at = stopped_at - interval '1 minute'")
    await connection.execute("UPDATE gateway_state SET observed_at = observed_at - interval '1 minute'")
    assert (await state.read_sources(connection))["facebook"]["stopped"] is None
    assert (await state.read_gateways(connection)).no_report
