"""Servers that come late, go and come back: the collector waits, catches up, and can be told to stop meanwhile.

These tests have a PostgreSQL and a NATS of their own, because they stop them.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest

from core import jetstream, postgres
from core.settings import Settings
from ops.local import Servers
from tests.support.collecting import balanced, drained, publish, publish_all
from tests.support.collector_process import CollectorProcess, collector_process
from tests.support.events import facebook, message
from tests.support.stack import reachable_folder
from tests.support.waiting import eventually

Start = Callable[..., AbstractAsyncContextManager[CollectorProcess]]


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[Servers]:
    """Servers for this module, with a migrated database."""
    with reachable_folder() as folder:
        async with Servers(folder / "stack", environ={}) as servers:
            await postgres.migrate(servers.owner_dsn)
            yield servers


@pytest.fixture
def start(own: Servers) -> Start:
    """Start a collector of facebook on these servers."""

    def started(**settings: str) -> AbstractAsyncContextManager[CollectorProcess]:
        ours = {"collector_dsn": own.collector_dsn, "nats_url": own.nats_url, "collector_ack_wait_seconds": "2"}
        return collector_process("facebook", **ours | settings)

    return started


async def owner(own: Servers) -> asyncpg.Connection[Any]:
    return await postgres.connect(own.owner_dsn, name="tests")


def many(count: int, events: int = 20) -> list[bytes]:
    return [message(*(facebook() for _ in range(events))) for _ in range(count)]


async def test_postgres_stops_and_starts(own: Servers, start: Start) -> None:
    """Stopped, started, and killed while events flow: the stream holds them, and the collector catches up by itself."""
    client = await jetstream.connect(own.nats_url, name="tests")
    async with start() as collector:
        await collector.is_ready()
        connection = await owner(own)
        before = await connection.fetchval("SELECT count(*) FROM facebook_events")
        await connection.close()

        await publish_all(client, "facebook", many(20))
        await own.supervisor.stop("postgres")
        await publish_all(client, "facebook", many(20))

        async def not_ready() -> bool:
            return "postgres" in await collector.missing()

        await eventually(not_ready, what="the collector says that PostgreSQL is missing")
        await own.supervisor.start_again("postgres")
        await drained(client, "facebook", seconds=30)
        await collector.is_ready()

        publishing = asyncio.create_task(publish_all(client, "facebook", many(200)))
        pid = own.supervisor.kill("postgres", signal.SIGKILL)
        await own.supervisor.wait_ready("postgres", after=pid)
        await publishing
        await drained(client, "facebook", seconds=30)
        assert await collector.metric('collector_store_retries_total{reason="wait",source="facebook"}') > 0
        assert await collector.terminate() == 0
    assert collector.errors == ""
    connection = await owner(own)
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") - before == 240 * 20
    await balanced(connection, client)
    await connection.close()
    await client.close()


async def test_nats_is_away_for_a_while(own: Servers, start: Start) -> None:
    """While NATS is away the collector is not ready, says so without flooding its log, and goes on when it is back."""
    client = await jetstream.connect(own.nats_url, name="tests")
    async with start() as collector:
        await collector.is_ready()
        said = len(collector.log)
        await own.supervisor.stop("nats")

        async def not_ready() -> bool:
            return "nats" in await collector.missing()

        await eventually(not_ready, what="the collector says that NATS is missing")
        gone = asyncio.get_running_loop().time()

        async def long_enough() -> bool:
            return asyncio.get_running_loop().time() - gone > 3

        await eventually(long_enough, what="NATS has been away for a while")
        lines = [json.dumps(entry) for entry in collector.log[said:]]
        assert any("NATS connection lost" in entry for entry in lines)
        assert len(lines) < 10, lines
        await own.supervisor.start_again("nats")
        await collector.is_ready()
        await publish_all(client, "facebook", many(10))
        await drained(client, "facebook", seconds=30)
        assert await collector.terminate() == 0
    assert collector.errors == ""
    await client.close()


async def test_a_collector_that_starts_before_its_servers(own: Servers, start: Start) -> None:
    """It serves its health at once, says what is missing, does not flood its log, and collects when they are there."""
    await own.supervisor.stop("nats")
    await own.supervisor.stop("postgres")
    async with start() as collector:

        async def waits_for_postgres() -> bool:
            return set(await collector.missing()) == {"postgres", "nats", "collecting"}

        await eventually(waits_for_postgres, what="the collector waits for PostgreSQL")
        assert (await collector.get("/health/live"))[0] == 200
        await own.supervisor.start_again("postgres")

        async def waits_for_nats() -> bool:
            return set(await collector.missing()) == {"nats", "collecting"}

        await eventually(waits_for_nats, what="the collector waits for NATS")
        said = len(collector.log)
        waited = asyncio.get_running_loop().time()

        async def long_enough() -> bool:
            return asyncio.get_running_loop().time() - waited > 3

        await eventually(long_enough, what="NATS has been awaited for a while")
        assert len(collector.log) - said < 10, collector.log[said:]
        await own.supervisor.start_again("nats")
        await collector.is_ready()
        client = await jetstream.connect(own.nats_url, name="tests")
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await client.close()
        assert await collector.terminate() == 0


@pytest.mark.parametrize("away", ["postgres", "nats"])
async def test_a_collector_that_waits_can_be_stopped(own: Servers, start: Start, away: str) -> None:
    """SIGTERM ends a collector that is still waiting for a server, at once and with 0."""
    await own.supervisor.stop(away)
    try:
        async with start(log_level="debug") as collector:

            async def waits() -> bool:
                return away in await collector.missing()

            await eventually(waits, what=f"the collector waits for {away}")
            if away == "nats":
                await collector.logged("NATS error")
            else:
                await collector.logged("waiting for PostgreSQL")
            assert await collector.terminate(seconds=5) == 0
        assert collector.errors == ""
    finally:
        await own.supervisor.start_again(away)


async def test_a_collector_migrates_a_new_database(own: Servers, start: Start) -> None:
    """With the owner's DSN a collector that waited for PostgreSQL migrates first; without it, it waits for who does."""
    connection = await postgres.connect(own.dsn("postgres", "postgres"), name="tests")
    await connection.execute("CREATE DATABASE later OWNER sluice_owner")
    await connection.close()
    dsns = {"collector_dsn": own.dsn("sluice_collector", "later")}
    async with start(**dsns) as waiting:
        await waiting.logged("waiting for the schema")
        async with start(**dsns, sluice_migrate_dsn=own.dsn("sluice_owner", "later")) as migrating:
            await migrating.is_ready()
            assert [line["version"] for line in migrating.log if line["event"] == "migrated"] == [
                migration.version for migration in postgres.migrations()
            ]
        await waiting.is_ready()


async def test_a_wrong_password_is_told(own: Servers, start: Start) -> None:
    """What waiting does not mend ends the start with one line on stderr, without the password."""
    wrong = own.collector_dsn.replace("sluice_collector:", "sluice_collector:wrong")
    async with start(collector_dsn=wrong) as collector:
        assert await collector.end() == 2
    assert collector.errors.startswith("sluice: ")
    assert "password authentication failed" in collector.errors
    assert "wrong" not in collector.errors
    assert collector.errors.count("\n") == 1


async def test_streams_that_differ_are_told(own: Servers, start: Start) -> None:
    """A stream with other settings than declared is used as it is, and the difference stands in the log."""
    client = await jetstream.connect(own.nats_url, name="tests")
    await jetstream.ensure_streams_when_up(client, Settings())
    async with start(stream_max_bytes="2000000") as collector:
        await collector.is_ready()
        drift = await collector.logged("stream settings drift")
        assert drift["drift"] == ["max_bytes is 11811160064, declared 2000000"]
    await client.close()
